#include "run/planning/placement_file.hpp"

#include <fmt/core.h>

#include <array>
#include <exception>
#include <fstream>
#include <nlohmann/json.hpp>
#include <sstream>

#include "base/error.hpp"

namespace flexgen {
namespace {

using Json = nlohmann::ordered_json;

[[noreturn]] void refuse_placements(const std::string& path, const std::string& why) {
  throw UserError(
      ExitCode::file, fmt::format("'{}' has no placements of ranks", path), why,
      R"(For example {"ranks": [{"percent": [20, 80, 0, 100, 100, 0]}, {"percent": [100, 0, 100, 0, 100, 0]}]})");
}

std::string read_text(const std::string& path) {
  std::ifstream file(path);
  std::stringstream text;
  text << file.rdbuf();
  if (!file) throw UserError(ExitCode::file, fmt::format("cannot read '{}'", path), "", "Check its name and rights");
  return text.str();
}

StageWishes wishes_of(const Json& rank) {
  StageWishes wishes;
  for (const auto& [name, value] : rank.items()) {
    if (name == "percent") wishes.placement = make_placement(value.get<std::array<double, 6>>());
    else if (name == "cpu_attention_percent") wishes.host_attention_percent = value.get<double>();
    else if (name == "sep_layer") wishes.separate_layers = value.get<bool>();
    else throw std::domain_error(fmt::format("a rank has '{}', which is not known", name));
  }
  if (!wishes.placement) throw std::domain_error("a rank has no percent");
  const double attended = wishes.host_attention_percent.value_or(0);
  if (!(attended >= 0 && attended <= 100)) throw std::domain_error("a rank's cpu_attention_percent is not 0 to 100");
  return wishes;
}

}  // namespace

RankPlacements read_placements(const std::string& path) {
  const std::string text = read_text(path);
  try {
    const Json json = Json::parse(text);
    RankPlacements placements;
    for (const Json& rank : json.at("ranks")) placements.stages.push_back(wishes_of(rank));
    if (placements.stages.empty()) throw std::domain_error("there are no ranks");
    if (json.contains("slices")) placements.slices = json["slices"].get<std::vector<std::int32_t>>();
    return placements;
  } catch (const UserError&) {
    throw;
  } catch (const std::exception& error) {
    refuse_placements(path, error.what());
  }
}

void write_placements(const JobPolicy& policy, const std::string& path) {
  Json json;
  json["slices"] = policy.slices;
  for (const StagePolicy& stage : policy.stages) {
    const Placement& at = stage.placement;
    json["ranks"].push_back({{"percent",
                              {at.weights.gpu_percent, at.weights.dram_percent, at.cache.gpu_percent,
                               at.cache.dram_percent, at.hidden.gpu_percent, at.hidden.dram_percent}},
                             {"cpu_attention_percent", stage.host_attention_percent},
                             {"sep_layer", stage.separate_layers}});
  }
  std::ofstream file(path);
  file << json.dump(2) << '\n';
  file.close();
  if (!file) throw UserError(ExitCode::file, fmt::format("cannot write '{}'", path), "", "Check its folder and rights");
}

}  // namespace flexgen

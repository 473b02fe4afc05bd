#include "job/input/kept_fields.hpp"

#include <fmt/core.h>

#include <algorithm>
#include <array>
#include <nlohmann/json.hpp>

#include "base/error.hpp"
#include "job/request_fields.hpp"

namespace flexgen {
namespace {

using Json = nlohmann::json;
using OrderedJson = nlohmann::ordered_json;

constexpr std::array<std::string_view, 19> result_fields{"custom_id",
                                                         "text",
                                                         "finish_reason",
                                                         "usage",
                                                         "choices",
                                                         "logprobs",
                                                         "prompt_logprobs",
                                                         "choice_logprobs",
                                                         "index",
                                                         "token_ids",
                                                         "prompt_token_ids",
                                                         "error",
                                                         "attempts",
                                                         "matched",
                                                         "token_logprobs",
                                                         "sum",
                                                         "count",
                                                         "perplexity",
                                                         "fields"};
constexpr std::array<std::string_view, 4> batch_fields{"custom_id", "method", "url", "body"};

template <class Names>
bool is_among(const Names& names, std::string_view name) {
  return std::ranges::find(names, name) != names.end();
}

/// The objects of a row in which its fields may stand.
std::vector<const Json*> places_of(const Json& document, bool batch_format) {
  std::vector<const Json*> places{&document};
  if (!batch_format) return places;
  const Json* body = find_set(document, "body");
  if (!body || !body->is_object()) return places;
  places.push_back(body);
  if (const Json* metadata = find_set(*body, "metadata"); metadata && metadata->is_object()) places.push_back(metadata);
  return places;
}

bool is_own(const std::string& name, bool is_batch_row) {
  return is_batch_row ? !is_among(batch_fields, name) : name != "custom_id" && !is_request_field(name);
}

}  // namespace

KeptFields::KeptFields(const std::string& names) : are_all_(names == "all") {
  for (std::size_t begin = 0; !are_all_ && begin <= names.size();) {
    const std::size_t end = std::min(names.find(',', begin), names.size());
    std::string name = names.substr(begin, end - begin);
    if (name.empty())
      throw UserError(ExitCode::usage, fmt::format("--keep-fields '{}' has an empty name", names), "",
                      "Give names with commas between them, or all");
    if (is_result_field(name))
      throw UserError(ExitCode::usage, fmt::format("--keep-fields cannot keep '{}'", name),
                      "results have a field of that name themselves", "Rename the field of the rows");
    if (!is_among(names_, name)) names_.push_back(std::move(name));
    begin = end + 1;
  }
}

bool KeptFields::keeps(const std::string& field) const { return are_all_ || is_among(names_, field); }

std::string KeptFields::of(const Json& document, bool batch_format) const {
  OrderedJson kept = OrderedJson::object();
  const std::vector<const Json*> places = places_of(document, batch_format);
  const auto keep = [&](const std::string& name, const Json& value) {
    const bool collides = !batch_format && is_result_field(name);
    kept.emplace(collides ? "row." + name : name, value);  // the first place has it
  };
  for (const Json* place : places) {
    for (const std::string& name : names_)
      if (const auto found = place->find(name); found != place->end()) keep(name, *found);
    if (!are_all_) continue;
    for (const auto& [name, value] : place->items())
      if (is_own(name, batch_format && place == places.front())) keep(name, value);
  }
  return kept.empty() ? std::string() : kept.dump();
}

bool is_result_field(const std::string& name) { return is_among(result_fields, name); }

}  // namespace flexgen

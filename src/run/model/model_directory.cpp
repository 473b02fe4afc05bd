#include "run/model/model_directory.hpp"

#include <fmt/core.h>

#include <array>
#include <fstream>
#include <nlohmann/json.hpp>
#include <optional>
#include <vector>

#include "base/error.hpp"

namespace flexgen {
namespace {

namespace fs = std::filesystem;

constexpr std::string_view hub_prefix = "models--";

// configs/models of the tree that this binary belongs to.
std::vector<fs::path> shape_folders() {
  std::vector<fs::path> folders{"configs/models"};
  std::error_code ignored;
  const fs::path program = fs::read_symlink("/proc/self/exe", ignored);
  if (ignored) return folders;
  const fs::path here = program.parent_path();
  folders.push_back(here.parent_path() / "configs/models");                     // build folder in the source tree
  folders.push_back(here.parent_path() / "share/flexgen-dist/configs/models");  // installed
  return folders;
}

bool is_there(const fs::path& file) {
  std::error_code ignored;
  return fs::exists(file, ignored);
}

bool has_config(const fs::path& folder) { return is_there(folder / "config.json"); }

fs::path without_slash(const fs::path& path) { return path.filename().empty() ? path.parent_path() : path; }

[[noreturn]] void refuse_cache(const fs::path& root, const std::string& reason) {
  throw UserError(ExitCode::model,
                  fmt::format("cannot choose a snapshot of the hub cache's folder '{}'", root.string()), reason,
                  "Give one of the folders in snapshots/");
}

// The snapshot that `root`, a model's folder in the cache of the Hugging Face hub, stands for; none when `root` is no
// such folder. Source: the layout of huggingface_hub's cache: refs/main names the folder in snapshots/.
std::optional<fs::path> find_snapshot(const fs::path& root) {
  std::error_code ignored;
  if (!fs::is_directory(root / "snapshots", ignored)) return std::nullopt;
  if (std::ifstream reference(root / "refs" / "main"); reference) {
    std::string commit;
    reference >> commit;
    const fs::path snapshot = root / "snapshots" / commit;
    const bool leaves = commit.empty() || commit.find('/') != std::string::npos || commit == "..";
    if (leaves || !has_config(snapshot))
      refuse_cache(root, fmt::format("refs/main names '{}', which is not a snapshot with a config.json", commit));
    return snapshot;
  }
  std::vector<fs::path> snapshots;
  for (const auto& entry : fs::directory_iterator(root / "snapshots", ignored))
    if (has_config(entry.path())) snapshots.push_back(entry.path());
  if (snapshots.size() != 1)
    refuse_cache(root, fmt::format("there is no refs/main, and {} snapshots have a config.json", snapshots.size()));
  return snapshots.front();
}

// The folder with the files of a model: `place` itself, or the snapshot that it stands for.
std::optional<fs::path> model_at(const fs::path& place) {
  if (has_config(place)) return place;
  const fs::path bare = without_slash(place);
  return find_snapshot(bare.filename() == "snapshots" ? bare.parent_path() : bare);
}

bool has_weights(const fs::path& folder) {
  constexpr std::array names{"model.safetensors", "model.safetensors.index.json", "pytorch_model.bin",
                             "pytorch_model.bin.index.json"};
  std::error_code ignored;
  return std::ranges::any_of(names, [&](const char* name) {
    return fs::symlink_status(folder / name, ignored).type() != fs::file_type::not_found;
  });
}

// An adapter is a small change to another model's weights: nothing can be run with it alone.
void refuse_adapter(const fs::path& folder) {
  if (!is_there(folder / "adapter_config.json") || has_weights(folder)) return;
  std::string base = "its base model";
  std::ifstream file(folder / "adapter_config.json");
  const nlohmann::json config = nlohmann::json::parse(file, nullptr, false);
  if (config.is_object() && config.contains("base_model_name_or_path") && config["base_model_name_or_path"].is_string())
    base = "'" + config["base_model_name_or_path"].get<std::string>() + "'";
  throw UserError(
      ExitCode::model, fmt::format("'{}' holds an adapter, not a model", folder.string()),
      "there is an adapter_config.json and no full weights",
      fmt::format("Load it on {} with peft, then save the result of merge_and_unload() and give that folder", base));
}

}  // namespace

fs::path find_model(const ModelChoice& choice, bool shape_is_enough) {
  const fs::path given(choice.name);
  const fs::path bare = without_slash(given);
  std::vector<fs::path> places{given};
  if (!choice.path.empty()) {
    places.push_back(fs::path(choice.path) / bare.filename());
    // "facebook/opt-1.3b" as a folder of the hub's cache: "models--facebook--opt-1.3b"
    const std::string owner = bare.parent_path().filename().string();
    places.push_back(fs::path(choice.path) / (std::string(hub_prefix) + owner + "--" + bare.filename().string()));
    if (owner.empty()) places.pop_back();
  }
  if (shape_is_enough)
    for (const fs::path& folder : shape_folders()) places.push_back(folder / bare.filename());
  std::string looked;
  for (const fs::path& place : places) {
    if (!shape_is_enough) refuse_adapter(place);
    if (const std::optional<fs::path> found = model_at(place)) return *found;
    looked += (looked.empty() ? "'" : ", '") + (place / "config.json").string() + "'";
  }
  throw UserError(ExitCode::model, "cannot find the model '" + choice.name + "'", "there is no " + looked,
                  "Give a Hugging Face model directory");
}

std::string model_name(const fs::path& directory, const std::string& folder_name) {
  const fs::path here = fs::absolute(without_slash(directory)).lexically_normal();
  const fs::path root = here.parent_path().parent_path();
  const std::string cached = root.filename().string();
  if (here.parent_path().filename() != "snapshots" || !cached.starts_with(hub_prefix)) return folder_name;
  const std::size_t last = cached.rfind("--");
  return cached.substr(last + 2);
}

}  // namespace flexgen

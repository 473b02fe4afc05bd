#include "app/model_directory.hpp"

#include <vector>

#include "base/error.hpp"

namespace flexgen {
namespace {

namespace fs = std::filesystem;

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

bool has_config(const fs::path& folder) { return fs::exists(folder / "config.json"); }

}  // namespace

fs::path find_model(const Options& options, bool shape_is_enough) {
  const fs::path given(options.model);
  const fs::path name = given.filename().empty() ? given.parent_path().filename() : given.filename();
  std::vector<fs::path> places{given};
  if (!options.path.empty()) places.push_back(fs::path(options.path) / name);
  if (shape_is_enough)
    for (const fs::path& folder : shape_folders()) places.push_back(folder / name);
  std::string looked;
  for (const fs::path& place : places) {
    if (has_config(place)) return place;
    looked += (looked.empty() ? "'" : ", '") + (place / "config.json").string() + "'";
  }
  throw UserError(ExitCode::model, "cannot find the model '" + options.model + "'", "there is no " + looked,
                  "Give a Hugging Face model directory");
}

}  // namespace flexgen

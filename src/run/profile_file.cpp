#include "run/profile_file.hpp"

#include <fmt/core.h>

#include <cerrno>
#include <cstdlib>
#include <fstream>
#include <sstream>

#include "base/error.hpp"
#include "base/log.hpp"
#include "job/figure_file.hpp"

namespace flexgen {
namespace {

namespace fs = std::filesystem;

LoadedProfile read_profile(const fs::path& path) {
  std::ifstream file(path);
  std::ostringstream text;
  if (!file || !(text << file.rdbuf()))
    throw UserError(ExitCode::file, fmt::format("cannot read the hardware profile '{}'", path.string()),
                    errno_text(errno), "Measure one with flexgen-dist profile");
  LoadedProfile loaded{"", parse_hardware_profile(text.str(), path.string()), {}};
  loaded.source =
      fmt::format("{} ({}{})", path.string(), loaded.profile.measured_at, loaded.profile.quick ? ", quick" : "");
  return loaded;
}

}  // namespace

fs::path default_profile_path(const std::string& host) {
  const char* cache = std::getenv("XDG_CACHE_HOME");
  const char* home = std::getenv("HOME");
  fs::path folder;
  if (cache && *cache == '/') folder = cache;  // the specification wants relative ones ignored
  else if (home && *home) folder = fs::path(home) / ".cache";
  else return {};
  return folder / "flexgen-dist" / ("profile-" + host + ".json");
}

std::optional<LoadedProfile> load_profile(const std::string& named, const std::string& host) {
  if (!named.empty()) return read_profile(named);
  const fs::path path = default_profile_path(host);
  std::error_code ignored;
  if (path.empty() || !fs::exists(path, ignored)) return std::nullopt;
  try {
    return read_profile(path);
  } catch (const UserError& error) {
    log::warn(error.what());
    return std::nullopt;
  }
}

void make_profile_folder(const fs::path& path) {
  std::error_code error;
  fs::create_directories(path.parent_path(), error);
  if (error)
    throw UserError(ExitCode::file, fmt::format("cannot make the folder of the hardware profile '{}'", path.string()),
                    error.message(), "Name another file with --output");
}

void save_profile(const HardwareProfile& profile, const fs::path& path) {
  write_figure_file(path.string(), {to_json(profile)}, FigureKind::profile, "--output");
}

}  // namespace flexgen

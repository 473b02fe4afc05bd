#include "app/output_paths.hpp"

#include <fmt/format.h>
#include <unistd.h>

#include <cerrno>
#include <filesystem>

#include "base/error.hpp"

namespace flexgen {
namespace {

namespace fs = std::filesystem;

void check(const char* option, const std::string& path) {
  if (path.empty()) return;
  const auto refuse = [&](const std::string& why) {
    throw UserError(ExitCode::file, fmt::format("cannot write '{}'", path), why, fmt::format("Check {}", option));
  };
  std::error_code ignored;
  if (fs::is_directory(path, ignored)) refuse("it is a folder");
  if (fs::exists(path, ignored)) {
    if (access(path.c_str(), W_OK) != 0) refuse(errno_text(errno));
    return;
  }
  // Folders that are missing will be made: the first that exists must allow it.
  fs::path folder = fs::absolute(path).parent_path();
  while (!fs::exists(folder, ignored) && folder.has_relative_path()) folder = folder.parent_path();
  if (!fs::is_directory(folder, ignored)) refuse(fmt::format("'{}' is no folder", folder.string()));
  if (access(folder.c_str(), W_OK | X_OK) != 0) refuse(fmt::format("'{}': {}", folder.string(), errno_text(errno)));
}

}  // namespace

void check_distinct(const char* option, const std::string& input, const std::string& output) {
  std::error_code ignored;
  if (input != "-" && output != "-" && fs::equivalent(input, output, ignored))
    throw UserError(ExitCode::usage, fmt::format("{} and --output are the same file", option),
                    "the rows would be overwritten", "Name another output");
}

void check_output_paths(const Options& options) {
  check("--report", options.report);
  check("--trace", options.trace);
}

}  // namespace flexgen

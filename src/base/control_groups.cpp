#include "base/control_groups.hpp"

#include <fmt/core.h>

#include <fstream>
#include <string>

namespace flexgen {
namespace {

namespace fs = std::filesystem;
using Visit = std::function<void(const fs::path&, GroupVersion)>;

void visit_path(const fs::path& mount, const std::string& path, GroupVersion version, const Visit& visit) {
  fs::path group = mount;
  visit(group, version);
  for (const auto& part : fs::path(path).relative_path()) visit(group /= part, version);
}

// Version 1: one mount for each set of controllers, with a link for each of a set.
void visit_version_1(const fs::path& mounts, std::string_view controller, const std::string& controllers,
                     const std::string& path, const Visit& visit) {
  std::error_code ignored;
  const fs::path own = mounts / controller;
  visit_path(fs::exists(own, ignored) ? own : mounts / controllers, path, GroupVersion::one, visit);
}

}  // namespace

// Lines of /proc/self/cgroup are "id:controllers:path"; version 2 has id 0 and no controllers.
void visit_control_groups(const fs::path& root, std::string_view controller, const Visit& visit) {
  const fs::path mounts = root / "sys/fs/cgroup";
  std::ifstream stream(root / "proc/self/cgroup");
  std::string line;
  while (std::getline(stream, line)) {
    const auto first = line.find(':');
    const auto second = first == std::string::npos ? first : line.find(':', first + 1);
    if (second == std::string::npos) continue;
    const std::string controllers = line.substr(first + 1, second - first - 1);
    const std::string path = line.substr(second + 1);
    if (controllers.empty()) {
      visit_path(mounts, path, GroupVersion::two, visit);
      visit_path(mounts / "unified", path, GroupVersion::two, visit);  // both versions side by side
    } else if (fmt::format(",{},", controllers).find(fmt::format(",{},", controller)) != std::string::npos) {
      visit_version_1(mounts, controller, controllers, path, visit);
    }
  }
}

std::optional<std::int64_t> read_group_number(const fs::path& file) {
  std::ifstream stream(file);
  std::int64_t value = 0;
  if (stream >> value) return value;
  return std::nullopt;
}

}  // namespace flexgen

#include "storage/host_memory.hpp"

#include <fmt/format.h>
#include <sys/statvfs.h>

#include <algorithm>
#include <cerrno>
#include <fstream>
#include <limits>
#include <optional>
#include <sstream>
#include <string>
#include <string_view>

#include "base/bytes.hpp"
#include "base/error.hpp"

namespace flexgen {
namespace {

constexpr std::uint64_t no_limit = std::numeric_limits<std::uint64_t>::max();

// Value after `key` in lines of the form "key[:] number [kB]".
std::optional<std::uint64_t> find_value(const std::filesystem::path& file, std::string_view key) {
  std::ifstream stream(file);
  std::string line;
  while (std::getline(stream, line)) {
    std::istringstream words(line);
    std::string name, unit;
    std::uint64_t value = 0;
    if (!(words >> name >> value)) continue;
    if (name != key) continue;
    return words >> unit && unit == "kB" ? value * KiB : value;
  }
  return std::nullopt;
}

std::optional<std::uint64_t> read_number(const std::filesystem::path& file) {
  std::ifstream stream(file);
  std::uint64_t value = 0;
  if (stream >> value) return value;
  return std::nullopt;  // missing, or "max"
}

struct GroupFiles {
  const char* limit;
  const char* usage;
  const char* reclaimable;  // page cache that the kernel drops first, a key of memory.stat
};
constexpr GroupFiles version_1{"memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"};
constexpr GroupFiles version_2{"memory.max", "memory.current", "inactive_file"};

// What one group leaves.
std::uint64_t room_of_group(const std::filesystem::path& group, const GroupFiles& files) {
  const auto limit = read_number(group / files.limit);
  if (!limit) return no_limit;
  const std::uint64_t usage = read_number(group / files.usage).value_or(0);
  const std::uint64_t reclaimable = std::min(usage, find_value(group / "memory.stat", files.reclaimable).value_or(0));
  const std::uint64_t held = usage - reclaimable;
  return *limit > held ? *limit - held : 0;
}

// What a group and all groups above it leave. Inside a container the path may be the host's and not exist here; the
// walk then ends at the mount point, which is the container's own group.
std::uint64_t room_of_groups(const std::filesystem::path& mount, const std::string& path, const GroupFiles& files) {
  std::uint64_t room = room_of_group(mount, files);
  std::filesystem::path group = mount;
  for (const auto& part : std::filesystem::path(path).relative_path()) {
    group /= part;
    room = std::min(room, room_of_group(group, files));
  }
  return room;
}

// Lines of /proc/self/cgroup are "id:controllers:path"; version 2 has id 0 and no controllers.
std::uint64_t room_of_control_groups(const std::filesystem::path& root) {
  const std::filesystem::path mounts = root / "sys/fs/cgroup";
  std::uint64_t room = no_limit;
  std::ifstream stream(root / "proc/self/cgroup");
  std::string line;
  while (std::getline(stream, line)) {
    const auto first = line.find(':');
    const auto second = first == std::string::npos ? first : line.find(':', first + 1);
    if (second == std::string::npos) continue;
    const std::string controllers = fmt::format(",{},", line.substr(first + 1, second - first - 1));
    const std::string path = line.substr(second + 1);
    if (controllers.find(",memory,") != std::string::npos) {
      room = std::min(room, room_of_groups(mounts / "memory", path, version_1));
    } else if (controllers == ",,") {
      room = std::min(room, room_of_groups(mounts, path, version_2));
      room = std::min(room, room_of_groups(mounts / "unified", path, version_2));  // both versions side by side
    }
  }
  return room;
}

std::uint64_t require_value(const std::filesystem::path& file, std::string_view key) {
  if (const auto value = find_value(file, key)) return *value;
  throw SystemError(ExitCode::internal, fmt::format("reading {} of '{}'", key, file.string()), "no such entry",
                    "Is /proc mounted?");
}

}  // namespace

std::uint64_t available_host_bytes(const std::filesystem::path& root) {
  return std::min(require_value(root / "proc/meminfo", "MemAvailable:"), room_of_control_groups(root));
}

std::uint64_t free_disk_bytes(const std::filesystem::path& path) {
  std::error_code error;
  std::filesystem::path existing = std::filesystem::absolute(path, error);
  while (!std::filesystem::exists(existing, error) && existing.has_relative_path()) existing = existing.parent_path();
  struct statvfs file_system {};
  if (::statvfs(existing.c_str(), &file_system) != 0) {
    throw UserError(ExitCode::file, fmt::format("cannot tell the free space of '{}'", path.string()), errno_text(errno),
                    "Check the path");
  }
  return std::uint64_t{file_system.f_bavail} * file_system.f_frsize;
}

std::uint64_t resident_set_bytes() { return require_value("/proc/self/status", "VmRSS:"); }
std::uint64_t peak_resident_set_bytes() { return require_value("/proc/self/status", "VmHWM:"); }

}  // namespace flexgen

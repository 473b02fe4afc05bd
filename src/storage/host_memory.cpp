#include "storage/host_memory.hpp"

#include <fmt/core.h>
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
#include "base/control_groups.hpp"
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

struct GroupFiles {
  const char* limit;
  const char* usage;
  const char* reclaimable;  // page cache that the kernel drops first, a key of memory.stat
};
constexpr GroupFiles version_1{"memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"};
constexpr GroupFiles version_2{"memory.max", "memory.current", "inactive_file"};

// What one group leaves.
std::uint64_t room_of_group(const std::filesystem::path& group, const GroupFiles& files) {
  const auto limit = read_group_number(group / files.limit);
  if (!limit) return no_limit;
  const auto usage = static_cast<std::uint64_t>(read_group_number(group / files.usage).value_or(0));
  const std::uint64_t reclaimable = std::min(usage, find_value(group / "memory.stat", files.reclaimable).value_or(0));
  const std::uint64_t held = usage - reclaimable;
  const auto most = static_cast<std::uint64_t>(*limit);
  return most > held ? most - held : 0;
}

std::uint64_t room_of_control_groups(const std::filesystem::path& root) {
  std::uint64_t room = no_limit;
  visit_control_groups(root, "memory", [&](const std::filesystem::path& group, GroupVersion version) {
    room = std::min(room, room_of_group(group, version == GroupVersion::one ? version_1 : version_2));
  });
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

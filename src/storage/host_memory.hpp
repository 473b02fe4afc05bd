// What this machine still has: memory (as the kernel and the control groups see it) and disk.
//
// Thread-safe; every call looks again. Sources: proc(5), cgroups(7), the kernel's cgroup-v1 and cgroup-v2 pages.
#pragma once

#include <cstdint>
#include <filesystem>

namespace flexgen {

/// Bytes of memory that this process can still take without swapping: MemAvailable, or what its control group (v1
/// or v2, and every group above) leaves, if that is less. `root` is where /proc and /sys are found.
/// Throws SystemError (internal) when /proc cannot be read.
std::uint64_t available_host_bytes(const std::filesystem::path& root = "/");

/// Bytes that this user may still write to the file system of `path`, or of its nearest parent that exists.
/// Throws UserError (file).
std::uint64_t free_disk_bytes(const std::filesystem::path& path);

/// Resident memory of this process now, and the most it ever was.
std::uint64_t resident_set_bytes();
std::uint64_t peak_resident_set_bytes();

}  // namespace flexgen

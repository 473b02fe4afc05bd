// The control groups that this process is in, as a container or a batch system makes them: groups limit what a
// process may take of its machine, each group above limits it, too.
//
// Free functions that read files; thread-safe. Sources: cgroups(7), the kernel's cgroup-v1 and cgroup-v2 pages.
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <optional>
#include <string_view>

namespace flexgen {

enum class GroupVersion { one, two };

/// Calls `visit` with the folder of every group in which this process finds `controller` ("memory", "cpu"), from the
/// mount point down; a folder need not have the controller's files, or exist. Inside a container the path that the
/// kernel names may be the host's and not exist here: the mount point is then the container's own group.
/// @param root  where /proc and /sys are found
void visit_control_groups(const std::filesystem::path& root, std::string_view controller,
                          const std::function<void(const std::filesystem::path& group, GroupVersion version)>& visit);

/// The number that a file begins with; none where the file is missing or says something else ("max").
std::optional<std::int64_t> read_group_number(const std::filesystem::path& file);

}  // namespace flexgen

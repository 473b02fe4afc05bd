// How many processors this process may use: fewer than the machine has, where it is bound to some (taskset, mpirun,
// a cpuset) or where a control group gives it a share of their time (docker --cpus, a Kubernetes limit).
//
// Thread-safe; every call looks again. Sources: sched_getaffinity(2), the kernel's cgroup-v2 page (cpu.max) and its
// page on CFS bandwidth control (cpu.cfs_quota_us).
#pragma once

#include <filesystem>
#include <vector>

namespace flexgen {

/// The processors that this thread may run on, in order; empty where the kernel does not say.
std::vector<int> allowed_processors();

/// Of how many processors a control group gives this process the time, at most; infinite where none limits it.
double processor_quota(const std::filesystem::path& root = "/");

/// At least 1. A share of processor time counts as that many processors, rounded up.
/// @param root  where /proc and /sys are found
int num_available_processors(const std::filesystem::path& root = "/");

}  // namespace flexgen

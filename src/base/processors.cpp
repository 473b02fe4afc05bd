#include "base/processors.hpp"

#include <sched.h>

#include <algorithm>
#include <cerrno>
#include <cmath>
#include <fstream>
#include <limits>
#include <string>
#include <thread>

#include "base/control_groups.hpp"

namespace flexgen {
namespace {

constexpr double no_limit = std::numeric_limits<double>::infinity();

// The processors whose time a group has, as a number that need not be whole.
double share_of_group(const std::filesystem::path& group, GroupVersion version) {
  double quota = 0, period = 0;
  if (version == GroupVersion::two) {
    std::ifstream file(group / "cpu.max");  // "QUOTA PERIOD" or "max PERIOD"
    if (!(file >> quota >> period)) return no_limit;
  } else {
    quota = static_cast<double>(read_group_number(group / "cpu.cfs_quota_us").value_or(-1));  // -1: none
    period = static_cast<double>(read_group_number(group / "cpu.cfs_period_us").value_or(0));
  }
  return quota > 0 && period > 0 ? quota / period : no_limit;
}

}  // namespace

std::vector<int> allowed_processors() {
  constexpr std::size_t most = 1 << 16;
  for (std::size_t num_bits = CPU_SETSIZE; num_bits <= most; num_bits *= 2) {  // the kernel wants room for all it knows
    std::vector<cpu_set_t> sets(num_bits / CPU_SETSIZE);
    const std::size_t num_bytes = sets.size() * sizeof(cpu_set_t);
    if (sched_getaffinity(0, num_bytes, sets.data()) != 0) {
      if (errno == EINVAL) continue;
      return {};
    }
    std::vector<int> processors;
    for (std::size_t i = 0; i < num_bits; ++i)
      if (CPU_ISSET_S(i, num_bytes, sets.data())) processors.push_back(static_cast<int>(i));
    return processors;
  }
  return {};
}

double processor_quota(const std::filesystem::path& root) {
  double quota = no_limit;
  visit_control_groups(root, "cpu", [&](const std::filesystem::path& group, GroupVersion version) {
    quota = std::min(quota, share_of_group(group, version));
  });
  return quota;
}

int num_available_processors(const std::filesystem::path& root) {
  const std::size_t allowed = allowed_processors().size();
  const auto available = static_cast<double>(allowed > 0 ? allowed : std::max(1U, std::thread::hardware_concurrency()));
  return std::max(1, static_cast<int>(std::min(available, std::ceil(processor_quota(root)))));
}

}  // namespace flexgen

#include <sys/resource.h>
#include <unistd.h>

#include <algorithm>
#include <fstream>
#include <sstream>

#include "base/bytes.hpp"
#include "base/control_groups.hpp"
#include "base/processors.hpp"
#include "comm/launch_environment.hpp"
#include "run/doctor/own_facts.hpp"
#include "storage/host_memory.hpp"

namespace flexgen {
namespace {

namespace fs = std::filesystem;

std::optional<std::uint64_t> limit_of(__rlimit_resource resource) {
  rlimit limit{};
  if (::getrlimit(resource, &limit) != 0 || limit.rlim_cur == RLIM_INFINITY) return std::nullopt;
  return limit.rlim_cur;
}

std::uint64_t memory_of_machine(const fs::path& root) {
  std::ifstream file(root / "proc/meminfo");
  std::string name;
  std::uint64_t kibibytes = 0;
  return file >> name >> kibibytes ? kibibytes * KiB : 0;  // "MemTotal: ... kB" is the first line
}

std::optional<std::uint64_t> memory_of_groups(const fs::path& root) {
  std::optional<std::uint64_t> tightest;
  visit_control_groups(root, "memory", [&](const fs::path& group, GroupVersion version) {
    const auto limit =
        read_group_number(group / (version == GroupVersion::one ? "memory.limit_in_bytes" : "memory.max"));
    if (limit) tightest = std::min(tightest.value_or(UINT64_MAX), static_cast<std::uint64_t>(*limit));
  });
  return tightest;
}

// "always [madvise] never"
std::string huge_pages(const fs::path& root) {
  std::ifstream file(root / "sys/kernel/mm/transparent_hugepage/enabled");
  for (std::string word; file >> word;)
    if (word.size() > 2 && word.front() == '[' && word.back() == ']') return word.substr(1, word.size() - 2);
  return "";
}

}  // namespace

MachineFacts look_at_machine(const fs::path& root) {
  MachineFacts facts;
  facts.processors = static_cast<int>(std::max(1L, ::sysconf(_SC_NPROCESSORS_ONLN)));
  facts.processors_allowed = std::max(1, static_cast<int>(allowed_processors().size()));
  facts.processors_available = num_available_processors(root);
  facts.memory_bytes = memory_of_machine(root);
  facts.available_bytes = available_host_bytes(root);
  facts.group_memory_bytes = memory_of_groups(root);
  if (facts.group_memory_bytes && *facts.group_memory_bytes >= facts.memory_bytes) facts.group_memory_bytes.reset();
  facts.locked_bytes = limit_of(RLIMIT_MEMLOCK);
  facts.open_files = limit_of(RLIMIT_NOFILE);
  facts.address_bytes = limit_of(RLIMIT_AS);
  facts.file_bytes = limit_of(RLIMIT_FSIZE);
  facts.huge_pages = huge_pages(root);
  facts.loop_threads = read_process_variable("OMP_NUM_THREADS");
  return facts;
}

}  // namespace flexgen

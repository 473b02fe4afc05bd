#include <fmt/core.h>
#include <gnu/libc-version.h>
#include <sys/utsname.h>

#include <fstream>

#include "comm/launch_environment.hpp"
#include "comm/mpi_version.hpp"
#include "ops/host/host_kernels.hpp"
#include "run/doctor/own_facts.hpp"
#include "run/version.hpp"

namespace flexgen {
namespace {

std::string compiler_text() {
#if defined(__clang__)
  return fmt::format("Clang {}.{}.{}", __clang_major__, __clang_minor__, __clang_patchlevel__);
#else
  return fmt::format("GCC {}.{}.{}", __GNUC__, __GNUC_MINOR__, __GNUC_PATCHLEVEL__);
#endif
}

constexpr bool is_optimised() {
#if defined(__OPTIMIZE__) && !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
  return true;
#else
  return false;
#endif
}

std::string processor_name() {
  std::ifstream file("/proc/cpuinfo");
  for (std::string line; std::getline(file, line);)
    if (const std::size_t colon = line.find(": "); line.starts_with("model name") && colon != std::string::npos)
      return line.substr(colon + 2);
  return "unknown processor";
}

std::string system_name() {
  utsname name{};
  return ::uname(&name) == 0 ? fmt::format("{} {}", name.sysname, name.release) : "unknown system";
}

// The machine's boot, rather than its name.
std::string boot_of_machine() {
  std::string id;
  std::ifstream("/proc/sys/kernel/random/boot_id") >> id;
  return id.empty() ? host_name() : id;
}

}  // namespace

ProgramFacts look_at_program() {
  ProgramFacts facts;
  facts.version = version_text();
  facts.compiler = compiler_text();
  facts.optimised = is_optimised();
  facts.built_glibc = fmt::format("{}.{}", __GLIBC__, __GLIBC_MINOR__);
  facts.glibc = gnu_get_libc_version();
  facts.mpi = mpi_version_text();
  facts.processor = processor_name();
  facts.kernels = host_kernels().name;
  facts.system = system_name();
  return facts;
}

LaunchFacts look_at_launch(const Communicator& ranks, bool launched) {
  const RankPlace& place = ranks.place(ranks.rank());
  LaunchFacts facts{place.host, boot_of_machine(), place.node, place.local_rank, place.local_size};
  if (launched) return facts;
  // srun's steps are refused before this when they do not become ranks; a batch script that forgot mpirun is not.
  const std::optional<std::string> tasks = read_process_variable("SLURM_NTASKS");
  if (tasks && read_process_variable("SLURM_JOB_ID")) facts.batch_tasks = std::atoi(tasks->c_str());
  return facts;
}

}  // namespace flexgen

#include "comm/launch_environment.hpp"

#include <fcntl.h>
#include <sys/prctl.h>
#include <unistd.h>

#include <csignal>
#include <cstdlib>

#include "base/error.hpp"
#include "base/log.hpp"

namespace flexgen {
namespace {

std::optional<int> read_count(const ReadVariable& read, const char* name) {
  const auto text = read(name);
  if (!text || text->empty()) return std::nullopt;
  char* end = nullptr;
  const long value = std::strtol(text->c_str(), &end, 10);
  if (*end != '\0' || value <= 0) return std::nullopt;
  return static_cast<int>(value);
}

void write_stop_file(const std::string& text) {
  const std::optional<std::string> path = read_process_variable("FLEXGEN_STOP_FILE");
  const int fd = path ? open(path->c_str(), O_WRONLY | O_TRUNC | O_CLOEXEC) : -1;  // never made here
  if (fd < 0) return;
  if (write(fd, text.data(), text.size()) < 0) log::debug("the launcher cannot be told how to stop the job early");
  close(fd);
}

volatile pid_t launcher_pid = 0;  // written once, before the handler is installed

extern "C" void parent_thread_ended(int) {
  // The signal comes when the *thread* that forked us ends; only a new parent means that the launcher is gone.
  if (getppid() != launcher_pid) _exit(static_cast<int>(ExitCode::communication));
}

}  // namespace

std::optional<std::string> read_process_variable(const char* name) {
  const char* value = std::getenv(name);
  if (!value) return std::nullopt;
  return value;
}

LaunchEnvironment read_launch_environment(const ReadVariable& read) {
  LaunchEnvironment launch;
  launch.expected_size = read_count(read, "OMPI_COMM_WORLD_SIZE");
  if (!launch.expected_size) launch.expected_size = read_count(read, "PMI_SIZE");
  for (const char* name : {"PMI_RANK", "PMIX_RANK", "OMPI_COMM_WORLD_RANK"})
    launch.rank = read_count(read, name).value_or(launch.rank);
  launch.by_mpi_launcher = launch.expected_size || read("PMI_RANK") || read("PMIX_RANK");

  // Inside a batch script (a job, but no step) SLURM_NTASKS describes the allocation, not this process.
  const bool batch_script = read("SLURM_JOB_ID") && !read("SLURM_STEP_ID");
  const auto num_tasks = read_count(read, "SLURM_NTASKS");
  launch.in_slurm_step = num_tasks && !batch_script;
  if (!launch.expected_size && launch.in_slurm_step) {
    const auto step_tasks = read_count(read, "SLURM_STEP_NUM_TASKS");
    launch.expected_size = step_tasks ? step_tasks : num_tasks;
  }
  return launch;
}

void check_world_size(const LaunchEnvironment& launch, int world_size) {
  if (!launch.expected_size || *launch.expected_size == world_size) return;
  throw UserError(
      ExitCode::communication,
      "the launcher started " + std::to_string(*launch.expected_size) + " processes, but MPI sees a world of " +
          std::to_string(world_size),
      launch.in_slurm_step ? "srun and this MPI do not speak the same PMI" : "launcher and MPI library do not match",
      launch.in_slurm_step
          ? "Use 'srun --mpi=pmix' ('srun --mpi=list' shows what there is), or mpirun in the allocation"
          : "Use the mpirun of the MPI that the program is linked with");
}

void offer_early_stop(const std::string& host) { write_stop_file(host + " " + std::to_string(getpid()) + "\n"); }

void withdraw_early_stop() { write_stop_file(""); }

void end_with_launcher() {
  launcher_pid = getppid();
  struct sigaction action = {};
  action.sa_handler = parent_thread_ended;
  action.sa_flags = SA_RESTART;
  sigemptyset(&action.sa_mask);
  const int signal_number = SIGRTMIN + 4;  // a signal of our own: SIGTERM and SIGINT mean an orderly interrupt
  if (sigaction(signal_number, &action, nullptr) != 0 || prctl(PR_SET_PDEATHSIG, signal_number) != 0)
    log::debug("this process cannot be tied to its launcher");
  else if (getppid() != launcher_pid) _exit(static_cast<int>(ExitCode::communication));  // it went away in between
}

}  // namespace flexgen

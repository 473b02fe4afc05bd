// Whether a process gets anywhere, as the kernel sees its threads: nothing has to be counted where the work is done.
//
// One thread calls it, which does not count itself. Source: proc(5), proc_pid_task(5), proc_pid_syscall(5).
#pragma once

#include <dirent.h>
#include <sys/types.h>

#include <cstdint>
#include <memory>
#include <vector>

namespace flexgen {

class ProcessActivity {
 public:
  /// Threads that exist now, all but the main one, are not counted: those of MPI, which look for messages for ever.
  ProcessActivity();

  /// Since the last call, has a thread computed for more than a trifle, or read or written, or is one in the hands of
  /// the system now: in a read that takes long, a page fault, a call of a driver? False where all wait for each other,
  /// for time to pass or for messages. A thread that observes does not count, and one that waits for input is in the
  /// hands of whoever gives it (base/thread_role). True where the system does not say.
  /// @param elapsed_ns  since the last call
  bool moved(std::uint64_t elapsed_ns);

 private:
  struct CloseFolder {
    void operator()(DIR* folder) const { closedir(folder); }
  };

  bool counts(pid_t thread) const;

  std::unique_ptr<DIR, CloseFolder> threads_;  // /proc/self/task
  std::vector<pid_t> not_counted_;
  std::uint64_t run_ns_ = 0, io_bytes_ = 0;  // of all that count, when last looked at
};

}  // namespace flexgen

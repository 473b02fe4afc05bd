// One place through which all MPI calls of a rank go after start-up.
//
// MPI calls are made under one mutex, either by the thread that submits a task or by the progress thread, so
// MPI_THREAD_SERIALIZED is enough. The progress thread polls unfinished tasks: it spins while data flow and briefly
// after, then sleeps between polls: from 20 us on, the longer the longer nothing has moved, so that tasks under way
// beside the computation cost it nothing to speak of: up to 100 us while somebody waits for a task, up to a millisecond
// else. Ownership: a task is shared by its submitter and, until finished, by MpiProgress. Thread-safe.
#pragma once

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <exception>
#include <functional>
#include <list>
#include <memory>
#include <mutex>
#include <string>
#include <thread>

namespace flexgen {

/// Something that takes several MPI calls to complete.
class ProgressTask {
 public:
  ProgressTask() = default;
  ProgressTask(const ProgressTask&) = delete;
  ProgressTask& operator=(const ProgressTask&) = delete;
  virtual ~ProgressTask() = default;

  /// True when finished; rethrows the task's failure.
  bool done() const;
  /// now_ns() when it finished; 0 before.
  std::uint64_t finished_ns() const { return finished_ns_; }
  /// True when finished, well or badly, within the time.
  bool finished_within(std::chrono::milliseconds limit) const;

 protected:
  friend class MpiProgress;
  enum class Step { waiting, moved, finished };  // moved: data flow, look again soon
  /// Called under the MPI mutex until it returns `finished` or throws (failed). The first call starts the task.
  virtual Step step() = 0;
  /// Called under the MPI mutex, after the first step. Asks the task to finish early if it can.
  virtual void cancel() {}

 private:
  enum State : int { pending, succeeded, failed };
  std::atomic<int> state_{pending};
  std::exception_ptr error_;       // written before state_ becomes failed
  std::uint64_t finished_ns_ = 0;  // written before state_ becomes succeeded
};

class MpiProgress {
 public:
  /// MPI must be initialised. @param who this rank, for messages ("rank 1 on host-b")
  explicit MpiProgress(std::string who);
  /// Gives unfinished tasks five seconds, then cancels them.
  ~MpiProgress();
  MpiProgress(const MpiProgress&) = delete;
  MpiProgress& operator=(const MpiProgress&) = delete;

  const std::string& who() const { return who_; }

  /// Starts `task` at once, in the calling thread. Tasks start in the order of the calls.
  void submit(const std::shared_ptr<ProgressTask>& task);
  /// The same for a task that nobody waits for: its failure is thrown by the next submit.
  void submit_detached(const std::shared_ptr<ProgressTask>& task);
  /// Blocks until it is finished, and has it polled often; rethrows its failure.
  void wait(const ProgressTask& task);
  void cancel(ProgressTask& task);

  /// Runs MPI calls of set-up and tear-down under the mutex.
  void call(const std::function<void()>& mpi_calls);

  /// Takes the mutex for good before MPI_Abort; gives up after a second if a call hangs.
  void silence();

 private:
  struct Entry {
    std::shared_ptr<ProgressTask> task;
    bool detached;
  };

  void start(const std::shared_ptr<ProgressTask>& task, bool detached);
  /// Steps one task; true if it finished, well or badly. Mutex held.
  bool step(const Entry& entry);
  void run();
  void poll_until_idle(std::unique_lock<std::timed_mutex>& lock);
  void sleep(std::unique_lock<std::timed_mutex>& lock);

  const std::string who_;
  std::timed_mutex mutex_;  // serialises MPI; guards all below
  std::condition_variable_any changed_;
  std::list<Entry> tasks_;  // unfinished, oldest first
  std::exception_ptr detached_failure_;
  bool stopping_ = false;
  std::atomic<int> num_waiting_{0};  // threads that want the mutex: polling steps aside for them
  std::atomic<int> num_awaited_{0};  // waits of threads for tasks, and detached tasks: a peer waits for these
  std::uint64_t spin_until_ns_ = 0;  // now_ns() scale
  std::uint64_t num_starts_ = 0;     // of tasks, and of waits for them
  std::thread thread_;
};

}  // namespace flexgen

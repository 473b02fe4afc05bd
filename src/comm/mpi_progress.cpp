#include "comm/mpi_progress.hpp"

#include <mpi.h>
#include <pthread.h>
#include <sys/prctl.h>

#include <algorithm>

#include "base/log.hpp"
#include "base/trace.hpp"

namespace flexgen {
namespace {

using namespace std::chrono_literals;

constexpr std::uint64_t spin_ns = 200'000;         // after a task starts or finishes
constexpr std::uint64_t flow_spin_ns = 1'000'000;  // after part of a message has moved: more will
struct Sleep {
  std::chrono::nanoseconds shortest, longest;
};
constexpr Sleep awaited_sleep{20us, 100us};
constexpr Sleep unawaited_sleep{100us, 1000us};
constexpr auto flow_sleep = 5us;  // no yield: who yields to a computing thread comes back when its slice is over
constexpr std::uint64_t sleep_share =
    4;  // where nothing has happened for a while, that through this is slept between polls
// An idle rank still lets MPI work now and then: a buffered send may not have left the process yet.
constexpr auto idle_period = 2ms;
constexpr auto drain_limit = 5s;

}  // namespace

bool ProgressTask::done() const {
  const int state = state_.load(std::memory_order_acquire);
  if (state == failed) std::rethrow_exception(error_);
  return state == succeeded;
}

bool ProgressTask::finished_within(std::chrono::milliseconds limit) const {
  const auto deadline = std::chrono::steady_clock::now() + limit;
  while (state_.load(std::memory_order_acquire) == pending) {
    if (std::chrono::steady_clock::now() > deadline) return false;
    std::this_thread::sleep_for(awaited_sleep.longest);
  }
  return true;
}

MpiProgress::MpiProgress(std::string who) : who_(std::move(who)), thread_([this] { run(); }) {}

MpiProgress::~MpiProgress() {
  {
    std::lock_guard lock(mutex_);
    stopping_ = true;
  }
  changed_.notify_all();
  thread_.join();
}

void MpiProgress::submit(const std::shared_ptr<ProgressTask>& task) { start(task, false); }

void MpiProgress::submit_detached(const std::shared_ptr<ProgressTask>& task) { start(task, true); }

void MpiProgress::start(const std::shared_ptr<ProgressTask>& task, bool detached) {
  ++num_waiting_;
  std::unique_lock lock(mutex_);
  --num_waiting_;
  if (detached_failure_) std::rethrow_exception(detached_failure_);
  spin_until_ns_ = std::max(spin_until_ns_, now_ns() + spin_ns);
  ++num_starts_;
  const Entry entry{task, detached};
  if (step(entry)) return;
  tasks_.push_back(entry);
  if (detached) ++num_awaited_;
  lock.unlock();
  changed_.notify_one();
}

void MpiProgress::wait(const ProgressTask& task) {
  if (task.done()) return;
  ++num_waiting_;
  {
    const std::lock_guard lock(mutex_);
    --num_waiting_;
    ++num_awaited_;
    ++num_starts_;
  }
  changed_.notify_one();
  task.state_.wait(ProgressTask::pending, std::memory_order_acquire);
  --num_awaited_;
  task.done();
}

void MpiProgress::cancel(ProgressTask& task) {
  ++num_waiting_;
  std::lock_guard lock(mutex_);
  --num_waiting_;
  if (task.state_ == ProgressTask::pending) task.cancel();
}

void MpiProgress::call(const std::function<void()>& mpi_calls) {
  ++num_waiting_;
  std::lock_guard lock(mutex_);
  --num_waiting_;
  mpi_calls();
}

void MpiProgress::silence() {
  ++num_waiting_;  // for good
  if (!mutex_.try_lock_for(1s)) log::warn("an MPI call of " + who_ + " hangs");
}

bool MpiProgress::step(const Entry& entry) {
  ProgressTask& task = *entry.task;
  try {
    const ProgressTask::Step result = task.step();
    if (result == ProgressTask::Step::moved) spin_until_ns_ = now_ns() + flow_spin_ns;
    if (result != ProgressTask::Step::finished) return false;
    task.finished_ns_ = now_ns();
    task.state_.store(ProgressTask::succeeded, std::memory_order_release);
  } catch (...) {
    task.error_ = std::current_exception();
    if (entry.detached && !detached_failure_) detached_failure_ = task.error_;
    task.state_.store(ProgressTask::failed, std::memory_order_release);
  }
  spin_until_ns_ = now_ns() + spin_ns;
  task.state_.notify_all();
  return true;
}

void MpiProgress::run() {
  pthread_setname_np(pthread_self(), "flexgen-mpi");
  prctl(PR_SET_TIMERSLACK, 1000UL);  // ns: the default of 50 us would treble the short sleeps
  std::unique_lock lock(mutex_);
  while (!stopping_) {
    changed_.wait_for(lock, idle_period, [this] { return stopping_ || !tasks_.empty(); });
    if (!tasks_.empty()) {
      poll_until_idle(lock);
    } else if (!stopping_) {
      int found = 0;
      MPI_Iprobe(MPI_ANY_SOURCE, MPI_ANY_TAG, MPI_COMM_SELF, &found, MPI_STATUS_IGNORE);
    }
  }
}

void MpiProgress::poll_until_idle(std::unique_lock<std::timed_mutex>& lock) {
  std::chrono::steady_clock::time_point deadline = {};  // set once stopping
  bool cancelled = false;
  while (!tasks_.empty()) {
    std::erase_if(tasks_, [this](const Entry& entry) {
      const bool is_finished = step(entry);
      if (is_finished && entry.detached) --num_awaited_;
      return is_finished;
    });
    if (tasks_.empty()) return;
    if (stopping_) {
      const auto now = std::chrono::steady_clock::now();
      if (deadline == std::chrono::steady_clock::time_point{}) deadline = now + drain_limit;
      if (now > deadline && cancelled) {
        log::warn(std::to_string(tasks_.size()) + " transfers of " + who_ + " were left unfinished");
        tasks_.clear();
        return;
      }
      if (now > deadline) {
        for (const Entry& entry : tasks_) entry.task->cancel();
        cancelled = true;
        deadline = now + 1s;
      }
    }
    if (num_waiting_ > 0 || (num_awaited_ > 0 && now_ns() < spin_until_ns_)) {
      lock.unlock();
      std::this_thread::sleep_for(flow_sleep);
      lock.lock();
    } else {
      sleep(lock);
    }
  }
}

// What moves takes several polls of both ranks, and a peer may wait for it: who starts a task or begins to wait for one
// wakes the thread, and only what has not moved for long is looked at seldom.
void MpiProgress::sleep(std::unique_lock<std::timed_mutex>& lock) {
  const Sleep& limits = num_awaited_ > 0 ? awaited_sleep : unawaited_sleep;
  const std::uint64_t now = now_ns();
  const std::chrono::nanoseconds share(now < spin_until_ns_ ? 0 : (now - spin_until_ns_) / sleep_share);
  changed_.wait_for(lock, std::clamp(share, limits.shortest, limits.longest),
                    [this, before = num_starts_] { return stopping_ || num_starts_ != before; });
}

}  // namespace flexgen

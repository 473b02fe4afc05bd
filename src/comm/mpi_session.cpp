#include "comm/mpi_session.hpp"

#include <mpi.h>

#include <atomic>
#include <condition_variable>
#include <cstdlib>
#include <exception>
#include <mutex>
#include <optional>
#include <random>
#include <thread>

#include "base/log.hpp"
#include "comm/in_process.hpp"
#include "comm/launch_environment.hpp"
#include "comm/mpi_communicator.hpp"
#include "comm/mpi_error.hpp"
#include "comm/mpi_progress.hpp"
#include "comm/mpi_transport.hpp"
#include "comm/process_activity.hpp"
#include "comm/rank_watch.hpp"

namespace flexgen {
namespace {

/// MPI_Init_thread and MPI_Finalize. Finalises unless told not to.
class MpiLibrary {
 public:
  MpiLibrary(int& argc, char**& argv, const LaunchEnvironment& launch) {
    int provided = MPI_THREAD_SINGLE;
    check_mpi(MPI_Init_thread(&argc, &argv, MPI_THREAD_SERIALIZED, &provided), "MPI_Init_thread", host_name());
    try {
      MPI_Comm_set_errhandler(MPI_COMM_WORLD, MPI_ERRORS_RETURN);  // inherited by duplicates
      MPI_Comm_set_errhandler(MPI_COMM_SELF, MPI_ERRORS_RETURN);
      int rank = 0, size = 1;
      check_mpi(MPI_Comm_rank(MPI_COMM_WORLD, &rank), "MPI_Comm_rank", host_name());
      check_mpi(MPI_Comm_size(MPI_COMM_WORLD, &size), "MPI_Comm_size", host_name());
      check_world_size(launch, size);
      if (provided < MPI_THREAD_SERIALIZED)
        throw UserError(ExitCode::communication, "this MPI cannot be called from several threads",
                        "MPI_Init_thread gives less than MPI_THREAD_SERIALIZED",
                        "Use an MPI built with thread support");
      who_ = "rank " + std::to_string(rank) + " on " + host_name();
    } catch (...) {
      MPI_Finalize();
      throw;
    }
  }
  ~MpiLibrary() { MPI_Finalize(); }
  MpiLibrary(const MpiLibrary&) = delete;
  MpiLibrary& operator=(const MpiLibrary&) = delete;

  const std::string& who() const { return who_; }

 private:
  std::string who_;
};

constexpr std::chrono::seconds first_beats{5};  // within which all ranks should have heard each other
constexpr std::chrono::seconds abort_limit{5};
constexpr std::chrono::seconds meeting_limit{120};
constexpr std::chrono::seconds meeting_head_start{10};  // rank 0 speaks for all, which ends the others

// What only the job's own ranks know.
std::uint64_t draw_job_number(Communicator& ranks) {
  std::random_device draw;
  return std::stoull(ranks.broadcast(std::to_string((std::uint64_t{draw()} << 32) | draw())));
}

WatchPlan plan_watch(const BeatSocket& socket, Communicator& ranks, std::chrono::seconds timeout) {
  WatchPlan plan{ranks.rank(), {}, draw_job_number(ranks), timeout};
  const std::vector<std::string> addresses = ranks.all_gather(socket.addresses());
  for (int r = 0; r < ranks.size(); ++r)
    plan.ranks.push_back({ranks.describe(r), parse_addresses(addresses[static_cast<std::size_t>(r)])});
  return plan;
}

// MPI may hang in the end of a job, too.
void exit_in(std::chrono::seconds limit, ExitCode code) {
  std::thread([limit, code] {
    std::this_thread::sleep_for(limit);
    std::_Exit(static_cast<int>(code));
  }).detach();
}

/// While it lives, ranks meet: one that hangs or cannot be reached would have the others wait before they are watched.
class MeetingLimit {
 public:
  explicit MeetingLimit(int rank) : rank_(rank), thread_([this] { wait(); }) {}
  ~MeetingLimit() {
    {
      const std::lock_guard lock(mutex_);
      is_over_ = true;
    }
    ended_.notify_all();
    thread_.join();
  }
  MeetingLimit(const MeetingLimit&) = delete;
  MeetingLimit& operator=(const MeetingLimit&) = delete;

 private:
  void wait() {
    std::unique_lock lock(mutex_);
    const auto limit = rank_ == 0 ? meeting_limit : meeting_limit + meeting_head_start;
    if (ended_.wait_for(lock, limit, [this] { return is_over_; })) return;
    log::error("not all ranks have met within " + std::to_string(meeting_limit.count()) + " s, says rank " +
               std::to_string(rank_) + " on " + host_name() +
               ": one hangs, or cannot be reached by MPI. 'mpirun hostname' shows whether all hosts start, "
               "mpirun --mca btl_tcp_if_include (launch/cluster.sh --interface) chooses another network");
    std::_Exit(static_cast<int>(ExitCode::communication));
  }

  const int rank_;
  std::mutex mutex_;
  std::condition_variable ended_;
  bool is_over_ = false;
  std::thread thread_;
};

}  // namespace

class MpiSession::Impl {
 public:
  Impl(int& argc, char**& argv) {
    const LaunchEnvironment launch = read_launch_environment();
    if (!launch.by_mpi_launcher) {
      check_world_size(launch, 1);
      communicator_ = std::make_unique<NullCommunicator>();
      return;
    }
    end_with_launcher();
    const MeetingLimit limit(launch.rank);
    library_.emplace(argc, argv, launch);
    progress_.emplace(library_->who());
    activity_.emplace();
    communicator_ = make_mpi_communicator(*progress_);
    speaker_ = communicator_->describe(communicator_->rank()) + " ends the job of " +
               std::to_string(communicator_->size()) + ": ";
  }

  // Here ranks wait for those that take their time, while MPI can still be told to end them all: from the end of MPI
  // on, a launcher takes a rank that has gone for one that is done.
  void wait_for_all() {
    if (!launched()) return;
    try {
      communicator_->barrier();
    } catch (const Error& error) {
      abort(error.what(), error.code());
    }
  }

  ~Impl() {
    is_ending_ = true;
    communicator_.reset();
    progress_.reset();
    library_.reset();
    watch_.reset();
  }
  Impl(const Impl&) = delete;
  Impl& operator=(const Impl&) = delete;

  bool launched() const { return library_.has_value(); }
  Communicator& communicator() { return *communicator_; }

  std::unique_ptr<Transport> make_transport(std::size_t part_bytes) {
    if (!launched()) return InProcessWorld(1).transport(0);
    return make_mpi_transport(*progress_, part_bytes);
  }

  void watch_ranks(std::chrono::seconds timeout, RankWatch::OnLost on_lost) {
    Communicator& ranks = *communicator_;
    const bool one_machine = ranks.local_size() == ranks.size();
    const MeetingLimit limit(ranks.rank());
    std::optional<BeatSocket> socket;
    ranks.agree_on_error([&] { socket.emplace(one_machine ? BeatReach::this_machine : BeatReach::network); });
    WatchPlan plan = plan_watch(*socket, ranks, timeout);
    watch_.emplace(
        std::move(*socket), std::move(plan), [this](std::uint64_t elapsed_ns) { return activity_->moved(elapsed_ns); },
        std::move(on_lost));
    if (const int num_unheard = watch_->wait_until_heard(first_beats); num_unheard > 0)
      log::warn("the beats (UDP) of " + std::to_string(num_unheard) + " other ranks do not reach " +
                ranks.describe(ranks.rank()) + ": should one hang, it is not noticed here");
  }

  /// Any thread, while the rest is being destroyed, too.
  [[noreturn]] void abort(const std::string& message, ExitCode code) {
    log::error(speaker_ + message);
    exit_in(abort_limit, code);
    if (is_ending_) std::_Exit(static_cast<int>(code));  // MPI does no more than end
    if (aborting_.exchange(true))                        // another thread of this rank is at it
      for (;;) std::this_thread::sleep_for(std::chrono::seconds(1));
    progress_->silence();
    MPI_Abort(MPI_COMM_WORLD, static_cast<int>(code));
    std::_Exit(static_cast<int>(code));  // in case MPI_Abort ever returns
  }

 private:
  std::optional<ProcessActivity> activity_;
  std::optional<MpiLibrary> library_;
  std::optional<MpiProgress> progress_;
  std::unique_ptr<Communicator> communicator_;
  std::optional<RankWatch> watch_;
  std::string speaker_;  // "rank 1 on host-b ends the job of 4: "
  std::atomic<bool> aborting_{false};
  std::atomic<bool> is_ending_{false};
};

MpiSession::MpiSession(int& argc, char**& argv) : impl_(std::make_unique<Impl>(argc, argv)) {}

MpiSession::~MpiSession() {
  if (impl_->launched() && std::uncaught_exceptions() > 0)
    abort_job("ended by an exception that was not handled", ExitCode::internal);
  impl_->wait_for_all();
}

bool MpiSession::launched() const { return impl_->launched(); }

Communicator& MpiSession::communicator() { return impl_->communicator(); }

void MpiSession::watch_ranks(std::chrono::seconds timeout) {
  if (!launched() || communicator().size() == 1 || timeout.count() == 0) return;
  impl_->watch_ranks(timeout, [this](const std::string& problem) { impl_->abort(problem, ExitCode::communication); });
}

std::unique_ptr<Transport> MpiSession::make_transport(std::size_t part_bytes) {
  return impl_->make_transport(part_bytes);
}

int MpiSession::abort_job(const std::string& message, ExitCode code) {
  if (!launched()) {
    log::error(message);
    return static_cast<int>(code);
  }
  impl_->abort(message, code);
}

int MpiSession::end_after(const Error& error) {
  if (!dynamic_cast<const AgreedError*>(&error)) return abort_job(error.what(), error.code());
  if (communicator().rank() == 0) log::error(error.what());
  communicator().barrier();  // a launcher ends the others when the first rank exits: let rank 0 speak before
  return static_cast<int>(error.code());
}

}  // namespace flexgen

// A job whose rank is killed, throws or fails, and a job whose launcher is killed: it ends everywhere, soon, with
// the right exit code and one message. Drives fault_program under launch/mpirun.sh.
#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <csignal>
#include <cstdlib>
#include <filesystem>
#include <functional>
#include <string>
#include <thread>
#include <vector>

#include "tests/support/scratch_place.hpp"

namespace flexgen::test {
namespace {

namespace fs = std::filesystem;
constexpr int num_ranks = 3;
constexpr double limit_seconds = 10;

bool within(double seconds, const std::function<bool()>& condition) {
  const auto end = std::chrono::steady_clock::now() + std::chrono::duration<double>(seconds);
  while (!condition()) {
    if (std::chrono::steady_clock::now() > end) return false;
    std::this_thread::sleep_for(std::chrono::milliseconds(10));
  }
  return true;
}

/// Runs or waits to run: a zombie that nobody collects does not count.
bool alive(pid_t pid) {
  const std::string stat = file_text("/proc/" + std::to_string(pid) + "/stat");
  const auto name_end = stat.rfind(')');
  return name_end != std::string::npos && stat.size() > name_end + 2 && stat[name_end + 2] != 'Z';
}

class Job {
 public:
  /// @param timeout_seconds  for which a rank may not answer
  explicit Job(const std::string& mode, int timeout_seconds = 60) {
    launcher_ = fork();
    if (launcher_ == 0) {
      const int output = open((folder_ / "output").c_str(), O_CREAT | O_WRONLY | O_APPEND, 0600);
      dup2(output, STDOUT_FILENO);
      dup2(output, STDERR_FILENO);
      const std::string script = FLEXGEN_SOURCE_DIR "/launch/mpirun.sh", ranks = std::to_string(num_ranks);
      const std::string timeout = std::to_string(timeout_seconds);
      execl(script.c_str(), script.c_str(), "-n", ranks.c_str(), FLEXGEN_FAULT_PROGRAM, folder_.path().c_str(),
            mode.c_str(), timeout.c_str(), nullptr);
      _exit(127);
    }
  }

  ~Job() {
    for (const pid_t pid : pids_)
      if (alive(pid)) kill(pid, SIGKILL);
    if (!ended_) {
      kill(launcher_, SIGKILL);
      waitpid(launcher_, nullptr, 0);
    }
  }
  Job(const Job&) = delete;
  Job& operator=(const Job&) = delete;

  /// Waits until all ranks have said who they are.
  bool started() {
    const bool all = within(20, [this] {
      for (int r = 0; r < num_ranks; ++r)
        if (!fs::exists(folder_ / ("pid." + std::to_string(r)))) return false;
      return true;
    });
    for (int r = 0; all && r < num_ranks; ++r)
      pids_.push_back(std::stoi(file_text(folder_ / ("pid." + std::to_string(r)))));
    return all;
  }

  pid_t launcher() const { return launcher_; }
  pid_t rank(int r) const { return pids_[static_cast<std::size_t>(r)]; }
  std::string output() const { return file_text(folder_ / "output"); }

  /// Waits for the launcher; its exit code, 128 + signal, or -1 when the time is up.
  int wait() {
    int status = 0;
    ended_ = within(limit_seconds, [&] { return waitpid(launcher_, &status, WNOHANG) == launcher_; });
    if (!ended_) return -1;
    return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
  }

  bool all_gone() {
    return within(limit_seconds, [this] { return std::none_of(pids_.begin(), pids_.end(), alive); });
  }

 private:
  const ScratchPlace folder_;
  pid_t launcher_ = -1;
  std::vector<pid_t> pids_;  // [ranks]
  bool ended_ = false;
};

std::size_t count(const std::string& text, const std::string& part) {
  std::size_t found = 0;
  for (auto at = text.find(part); at != std::string::npos; at = text.find(part, at + 1)) ++found;
  return found;
}

class Stopwatch {
 public:
  double seconds() const { return std::chrono::duration<double>(std::chrono::steady_clock::now() - begin_).count(); }

 private:
  std::chrono::steady_clock::time_point begin_ = std::chrono::steady_clock::now();
};

void note_seconds(const Stopwatch& watch) {
  ::testing::Test::RecordProperty("seconds_to_end", std::to_string(watch.seconds()));
  std::cout << "the job was gone " << watch.seconds() << " s after the fault" << std::endl;
}

TEST(LostRank, AFineJobEndsWithZeroAndSaysNothing) {
  Job job("fine");
  ASSERT_TRUE(job.started()) << job.output();
  EXPECT_EQ(job.wait(), 0);
  EXPECT_EQ(job.output(), "");
}

TEST(LostRank, KilledRankEndsTheJob) {
  for (const int victim : {1, 0}) {
    Job job("exchange");
    ASSERT_TRUE(job.started()) << job.output();
    std::this_thread::sleep_for(std::chrono::milliseconds(200));
    const Stopwatch watch;
    kill(job.rank(victim), SIGKILL);
    EXPECT_EQ(job.wait(), 5);
    EXPECT_TRUE(job.all_gone());
    note_seconds(watch);
    EXPECT_NE(job.output().find("rank " + std::to_string(victim)), std::string::npos) << job.output();
  }
}

TEST(LostRank, KilledRankEndsOthersThatWaitForever) {
  Job job("hang");
  ASSERT_TRUE(job.started()) << job.output();
  std::this_thread::sleep_for(std::chrono::milliseconds(200));
  const Stopwatch watch;
  kill(job.rank(2), SIGKILL);
  EXPECT_EQ(job.wait(), 5);
  EXPECT_TRUE(job.all_gone());
  note_seconds(watch);
  EXPECT_NE(job.output().find("rank 2"), std::string::npos) << job.output();
}

TEST(LostRank, ThrowingRankEndsTheJobWithItsCode) {
  Job job("throw");
  ASSERT_TRUE(job.started()) << job.output();
  const Stopwatch watch;
  EXPECT_EQ(job.wait(), 5);
  EXPECT_TRUE(job.all_gone());
  note_seconds(watch);
  EXPECT_EQ(count(job.output(), "error: rank 1 on "), 1U) << job.output();
  EXPECT_EQ(count(job.output(), "the stage broke: as the test wants"), 1U) << job.output();
}

TEST(LostRank, StoppedRankEndsTheJob) {
  for (const int victim : {0, 1, 2}) {
    Job job(victim == 1 ? "exchange" : "hang", 1);
    ASSERT_TRUE(job.started()) << job.output();
    std::this_thread::sleep_for(std::chrono::milliseconds(200));
    const Stopwatch watch;
    kill(job.rank(victim), SIGSTOP);
    EXPECT_EQ(job.wait(), 5);
    EXPECT_TRUE(job.all_gone());
    note_seconds(watch);
    EXPECT_GE(watch.seconds(), 0.8);
    EXPECT_EQ(count(job.output(), ": rank " + std::to_string(victim) + " on "), 1U) << job.output();
    EXPECT_EQ(count(job.output(), " has not answered for 1 s (--rank-timeout)"), 1U) << job.output();
  }
}

TEST(LostRank, ARankThatIsStoppedInTheEndEndsTheJob) {
  for (const int victim : {0, 1}) {
    Job job("end", 1);
    ASSERT_TRUE(job.started()) << job.output();
    std::this_thread::sleep_for(std::chrono::milliseconds(200));
    kill(job.rank(victim), SIGSTOP);
    EXPECT_EQ(job.wait(), 5);
    EXPECT_TRUE(job.all_gone());
    EXPECT_EQ(count(job.output(), ": rank " + std::to_string(victim) + " on "), 1U) << job.output();
  }
}

TEST(LostRank, ARankInADeadlockEndsTheJob) {
  Job job("deadlock", 1);
  ASSERT_TRUE(job.started()) << job.output();
  EXPECT_EQ(job.wait(), 5);
  EXPECT_TRUE(job.all_gone());
  EXPECT_EQ(count(job.output(), "no rank has got anywhere for 1 s (--rank-timeout); rank "), 1U) << job.output();
}

TEST(LostRank, SlowIsNotLost) {
  for (const char* mode : {"compute", "read"}) {
    Job job(mode, 1);
    ASSERT_TRUE(job.started()) << job.output();
    EXPECT_EQ(job.wait(), 0) << mode;
    EXPECT_EQ(job.output(), "");
  }
}

TEST(LostRank, AJobThatWasStoppedAsAWholeGoesOn) {
  Job job("fine-later", 1);
  ASSERT_TRUE(job.started()) << job.output();
  for (int r = 0; r < num_ranks; ++r) kill(job.rank(r), SIGSTOP);
  std::this_thread::sleep_for(std::chrono::milliseconds(1500));
  for (int r = 0; r < num_ranks; ++r) {
    kill(job.rank(r), SIGCONT);
    std::this_thread::sleep_for(std::chrono::milliseconds(100));
  }
  EXPECT_EQ(job.wait(), 0);
  EXPECT_EQ(job.output(), "");
}

TEST(LostRank, SetUpErrorsEndWithTheirCodeAndOneMessage) {
  Job one("set-up");
  ASSERT_TRUE(one.started()) << one.output();
  EXPECT_EQ(one.wait(), 3);
  EXPECT_EQ(count(one.output(), "cannot open shard: not there"), 1U) << one.output();
  EXPECT_EQ(count(one.output(), "error: rank 1 on "), 1U) << one.output();
  EXPECT_EQ(count(one.output(), "MPI_ABORT"), 0U) << one.output();

  Job all("bad-flag");
  ASSERT_TRUE(all.started()) << all.output();
  EXPECT_EQ(all.wait(), 2);
  EXPECT_EQ(count(all.output(), "error: --percent is wrong: five numbers. Give six"), 1U) << all.output();
  EXPECT_EQ(count(all.output(), "MPI_ABORT"), 0U) << all.output();
}

TEST(LostRank, KilledLauncherLeavesNoOrphans) {
  for (const char* mode : {"exchange", "hang"}) {
    Job job(mode);
    ASSERT_TRUE(job.started()) << job.output();
    std::this_thread::sleep_for(std::chrono::milliseconds(200));
    const Stopwatch watch;
    kill(job.launcher(), SIGKILL);
    EXPECT_EQ(job.wait(), 128 + SIGKILL);
    EXPECT_TRUE(job.all_gone());
    note_seconds(watch);
  }
}

TEST(LostRank, AloneNeedsNoLauncher) {
  const ScratchPlace folder;
  const auto exit_code = [&](const std::string& variables, const std::string& mode) {
    const std::string command = "env -u SLURM_JOB_ID -u SLURM_NTASKS -u SLURM_STEP_ID " + variables + " '" +
                                FLEXGEN_FAULT_PROGRAM + "' '" + folder.path().string() + "' " + mode + " 2>/dev/null";
    return WEXITSTATUS(std::system(command.c_str()));
  };
  EXPECT_EQ(exit_code("", "fine"), 0);
  EXPECT_EQ(exit_code("", "bad-flag"), 2);
  EXPECT_EQ(exit_code("SLURM_NTASKS=4", "fine"), 5);  // srun without a PMI
}

}  // namespace
}  // namespace flexgen::test

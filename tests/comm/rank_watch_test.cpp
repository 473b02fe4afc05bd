#include "comm/rank_watch.hpp"

#include <gtest/gtest.h>
#include <poll.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <condition_variable>
#include <mutex>

#include "base/thread_role.hpp"
#include "comm/process_activity.hpp"

namespace flexgen::test {
namespace {

using namespace std::chrono_literals;
using std::chrono::milliseconds;

/// The watches of a few ranks in one process. What a rank says of itself is asked of the test.
class Watches {
 public:
  Watches(int num_ranks, milliseconds timeout) : states_(static_cast<std::size_t>(num_ranks)) {
    std::vector<BeatSocket> sockets;
    WatchPlan plan{0, {}, 17, timeout};
    for (int r = 0; r < num_ranks; ++r) {
      sockets.emplace_back(BeatReach::this_machine);
      plan.ranks.push_back({"rank " + std::to_string(r), parse_addresses(sockets.back().addresses())});
    }
    for (plan.rank = 0; plan.rank < num_ranks; ++plan.rank)
      watches_.push_back(watch(std::move(sockets[static_cast<std::size_t>(plan.rank)]), plan));
  }
  ~Watches() {
    for (State& state : states_) state.hangs = false;
  }
  Watches(const Watches&) = delete;
  Watches& operator=(const Watches&) = delete;

  bool all_heard() const {
    return std::all_of(watches_.begin(), watches_.end(), [](const auto& w) { return w->wait_until_heard(5s) == 0; });
  }
  void hang(int rank) { states_[static_cast<std::size_t>(rank)].hangs = true; }
  void stand_still(int rank) { states_[static_cast<std::size_t>(rank)].moves = false; }
  void leave(int rank) { watches_[static_cast<std::size_t>(rank)].reset(); }

  /// Which ranks have accused another within the time, and the first accusation.
  std::vector<int> accusers_within(milliseconds limit) {
    std::unique_lock lock(mutex_);
    told_.wait_for(lock, limit, [this] { return !accusers_.empty(); });
    return accusers_;
  }
  std::string problem() {
    const std::lock_guard lock(mutex_);
    return problem_;
  }

 private:
  struct State {
    std::atomic<bool> hangs{false}, moves{true};
  };

  std::unique_ptr<RankWatch> watch(BeatSocket socket, const WatchPlan& plan) {
    State& state = states_[static_cast<std::size_t>(plan.rank)];
    const auto moved = [&state](std::uint64_t) {
      while (state.hangs) std::this_thread::sleep_for(1ms);  // with all its threads, as a stopped process
      return state.moves.load();
    };
    const auto on_lost = [this, rank = plan.rank](const std::string& problem) {
      const std::lock_guard lock(mutex_);
      if (accusers_.empty()) problem_ = problem;
      accusers_.push_back(rank);
      told_.notify_all();
    };
    return std::make_unique<RankWatch>(std::move(socket), plan, moved, on_lost);
  }

  std::mutex mutex_;
  std::condition_variable told_;
  std::vector<int> accusers_;
  std::string problem_;
  std::vector<State> states_;
  std::vector<std::unique_ptr<RankWatch>> watches_;
};

TEST(RankWatch, NamesTheRankThatHangsByTheLowestThatIsLeft) {
  for (const int victim : {0, 1, 2}) {
    Watches watches(3, 500ms);
    ASSERT_TRUE(watches.all_heard());
    watches.hang(victim);
    EXPECT_EQ(watches.accusers_within(10s), std::vector{victim == 0 ? 1 : 0});
    EXPECT_EQ(watches.problem(), "rank " + std::to_string(victim) + " has not answered for 0 s (--rank-timeout)");
  }
}

TEST(RankWatch, AccusesNobodyWhileOneMoves) {
  Watches watches(3, 500ms);
  ASSERT_TRUE(watches.all_heard());
  watches.stand_still(0);
  watches.stand_still(2);
  EXPECT_TRUE(watches.accusers_within(1200ms).empty()) << watches.problem();
  watches.stand_still(1);
  EXPECT_EQ(watches.accusers_within(10s).size(), 1U);
  EXPECT_NE(watches.problem().find("no rank has got anywhere"), std::string::npos) << watches.problem();
  EXPECT_EQ(watches.problem().find("rank 1"), std::string::npos) << watches.problem();  // the last to stand still
}

TEST(RankWatch, AJobThatHangsAsAWholeAndGoesOnAccusesNobody) {
  Watches watches(2, 500ms);
  ASSERT_TRUE(watches.all_heard());
  for (int r = 0; r < 2; ++r) watches.hang(r);
  std::this_thread::sleep_for(1300ms);
  EXPECT_TRUE(watches.accusers_within(0ms).empty()) << watches.problem();
}

TEST(RankWatch, DoesNotWaitForARankThatHasLeft) {
  Watches watches(3, 500ms);
  ASSERT_TRUE(watches.all_heard());
  watches.leave(1);
  EXPECT_TRUE(watches.accusers_within(1s).empty()) << watches.problem();
}

TEST(BeatSocket, BeatsOfOtherJobsAreNotHeard) {
  BeatSocket own(BeatReach::this_machine), silent(BeatReach::this_machine), foreign(BeatReach::network);
  const auto address = parse_addresses(own.addresses());
  const WatchPlan plan{0, {{"rank 0", address}, {"rank 1", parse_addresses(silent.addresses())}}, 17, 500ms};
  const RankWatch watch(
      std::move(own), plan, [](std::uint64_t) { return true; }, [](const std::string&) {});
  foreign.send(Beat{18, 1, Beat::Kind::alive, 0}, address.front());
  EXPECT_EQ(watch.wait_until_heard(100ms), 1);
  foreign.send(Beat{17, 1, Beat::Kind::alive, 0}, address.front());
  EXPECT_EQ(watch.wait_until_heard(5s), 0);
}

/// Asks a ProcessActivity a few times, from a thread of its own, as a watch does. @returns how often it moved
int times_moved(ProcessActivity& activity) {
  int times = 0;
  std::thread([&] {
    for (int i = 0; i < 2; ++i) {  // until all have begun to do what they do
      std::this_thread::sleep_for(50ms);
      activity.moved(0);
    }
    for (int i = 0; i < 5; ++i) {
      std::this_thread::sleep_for(50ms);
      times += activity.moved(50'000'000) ? 1 : 0;
    }
  }).join();
  return times;
}

TEST(ProcessActivity, ThreadsThatWaitForEachOtherDoNotMove) {
  ProcessActivity activity;
  std::atomic<bool> over{false};
  std::thread waiting([&] { over.wait(false); });
  EXPECT_EQ(times_moved(activity), 0);
  over = true;
  over.notify_all();
  waiting.join();
}

TEST(ProcessActivity, AThreadThatComputesOrReadsMoves) {
  ProcessActivity activity;
  std::atomic<bool> over{false};
  std::thread computing([&] {
    while (!over) {
    }
  });
  EXPECT_EQ(times_moved(activity), 5);
  over = true;
  computing.join();

  std::array<int, 2> pipe_ends{};
  ASSERT_EQ(pipe(pipe_ends.data()), 0);
  std::thread reading([&] {
    char byte = 0;
    EXPECT_EQ(read(pipe_ends[0], &byte, 1), 1);
  });
  EXPECT_EQ(times_moved(activity), 5);
  EXPECT_EQ(write(pipe_ends[1], "x", 1), 1);
  reading.join();
  for (const int end : pipe_ends) close(end);
}

TEST(ProcessActivity, AnObserverThatComputesDoesNotMove) {
  ProcessActivity activity;
  std::atomic<bool> over{false};
  std::thread observing([&] {
    const ThreadRole role(observer_role);
    while (!over) {
    }
  });
  EXPECT_EQ(times_moved(activity), 0);
  over = true;
  observing.join();
}

TEST(ProcessActivity, AThreadThatWaitsForInputMoves) {
  ProcessActivity activity;
  std::atomic<bool> over{false};
  std::thread waiting([&] {
    const ThreadRole role(input_role);
    while (!over) poll(nullptr, 0, 20);
  });
  EXPECT_EQ(times_moved(activity), 5);
  over = true;
  waiting.join();
}

TEST(ProcessActivity, ThreadsThatWereThereBeforeDoNotCount) {
  std::atomic<bool> over{false};
  std::thread computing([&] {
    while (!over) {
    }
  });
  ProcessActivity activity;
  EXPECT_EQ(times_moved(activity), 0);
  over = true;
  computing.join();
}

}  // namespace
}  // namespace flexgen::test

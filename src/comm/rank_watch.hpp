// Notices ranks that no longer answer: every rank has a thread that sends a beat to every other one and listens for
// theirs. A stopped process, a machine that is gone and a job in which no rank gets anywhere end so in bounded time.
//
// Slow is not lost: the thread beats while its rank computes or loads, for however long. Time counts only as far as
// the observer ran itself: a job that was stopped as a whole, or a machine that slept, accuses nobody.
// Policy: src/decisions/0013-ranks-that-do-not-answer.md.
#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "comm/beat_socket.hpp"

namespace flexgen {

struct WatchedRank {
  std::string name;  // "rank 1 on host-b"
  std::vector<BeatAddress> addresses;
};

struct WatchPlan {
  int rank = 0;                    // this one
  std::vector<WatchedRank> ranks;  // [size]
  std::uint64_t job = 0;           // the same on all ranks, and on those of no other job
  std::chrono::milliseconds timeout{};
};

class RankWatch {
 public:
  /// Whether this rank has got anywhere in the time that has passed, in ns; asked a few times per timeout.
  using Moved = std::function<bool(std::uint64_t elapsed_ns)>;
  /// Told once, from the watch's thread, what is wrong. Need not return.
  using OnLost = std::function<void(const std::string& problem)>;

  RankWatch(BeatSocket socket, WatchPlan plan, Moved moved, OnLost on_lost);
  /// Says goodbye: the others do not wait for this rank any more.
  ~RankWatch();
  RankWatch(const RankWatch&) = delete;
  RankWatch& operator=(const RankWatch&) = delete;

  /// Waits until all others have been heard; those who have not been within the time are not watched until they are.
  /// Returns how many those are.
  int wait_until_heard(std::chrono::milliseconds limit) const;

 private:
  struct Peer;
  class Watching;

  std::unique_ptr<Watching> watching_;
  std::thread thread_;
};

}  // namespace flexgen

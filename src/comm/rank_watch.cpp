#include "comm/rank_watch.hpp"

#include <poll.h>
#include <pthread.h>

#include <algorithm>
#include <atomic>
#include <memory>

#include "base/trace.hpp"

namespace flexgen {
namespace {

using std::chrono::milliseconds;
using namespace std::chrono_literals;

constexpr std::uint64_t ns_per_ms = 1'000'000;
constexpr int beats_per_timeout = 10;
constexpr milliseconds longest_interval = 1s;
// The lowest rank that is left speaks for all; the others do should it fail to.
constexpr milliseconds head_start = 2s;

}  // namespace

struct RankWatch::Peer {
  std::vector<BeatAddress> addresses;  // one, once it has been heard
  std::uint64_t silent_ms = 0;         // of the observer's own time
  std::uint64_t still_ms = 0;          // as it said last
  bool has_left = false;
  std::atomic<bool> is_heard{false};
};

/// What the thread has. The owner touches the atomics alone.
class RankWatch::Watching {
 public:
  Watching(BeatSocket socket, WatchPlan plan, Moved moved, OnLost on_lost)
      : socket_(std::move(socket)),
        plan_(std::move(plan)),
        moved_(std::move(moved)),
        on_lost_(std::move(on_lost)),
        interval_(std::clamp(plan_.timeout / beats_per_timeout, milliseconds{1}, longest_interval)),
        peers_(plan_.ranks.size()) {
    for (std::size_t r = 0; r < peers_.size(); ++r) peers_[r].addresses = plan_.ranks[r].addresses;
    peers_[own()].is_heard = true;
  }

  void run() {
    pthread_setname_np(pthread_self(), "flexgen-watch");
    std::uint64_t last_ns = now_ns();
    send(Beat::Kind::alive);
    while (!stopping_) {
      listen(last_ns + static_cast<std::uint64_t>(interval_.count()) * ns_per_ms);
      const std::uint64_t now = now_ns();
      const std::uint64_t passed_ns = now - last_ns;
      last_ns = now;
      pass_time(passed_ns);
      send(Beat::Kind::alive);
      if (const std::string problem = judge(); !problem.empty()) {
        send(Beat::Kind::leaving);  // a rank that was stopped and is continued, to be ended, must not miss this one
        on_lost_(problem);
        return;
      }
    }
    send(Beat::Kind::leaving);
  }

  void stop() {
    stopping_ = true;
    // A beat of its own wakes the thread.
    for (const BeatAddress& to : plan_.ranks[own()].addresses) socket_.send(beat(Beat::Kind::alive), to);
  }

  int num_unheard() const {
    return static_cast<int>(std::count_if(peers_.begin(), peers_.end(), [](const Peer& p) { return !p.is_heard; }));
  }

 private:
  std::size_t own() const { return static_cast<std::size_t>(plan_.rank); }
  std::uint64_t limit_ms() const { return static_cast<std::uint64_t>(plan_.timeout.count()); }

  Beat beat(Beat::Kind kind) const {
    return {plan_.job, static_cast<std::uint32_t>(plan_.rank), kind, still_ms_.load(std::memory_order_relaxed)};
  }

  void send(Beat::Kind kind) const {
    const Beat mine = beat(kind);
    for (std::size_t r = 0; r < peers_.size(); ++r) {
      if (r == own() || peers_[r].has_left) continue;
      for (const BeatAddress& to : peers_[r].addresses) socket_.send(mine, to);
    }
  }

  /// Takes what comes, at least once, until `end_ns`.
  void listen(std::uint64_t end_ns) {
    pollfd ready{socket_.descriptor(), POLLIN, 0};
    do {
      const std::uint64_t now = now_ns();
      const std::uint64_t left_ms = now < end_ns ? (end_ns - now) / ns_per_ms + 1 : 0;
      poll(&ready, 1, static_cast<int>(left_ms));
      while (const auto received = socket_.receive()) take(received->first, received->second);
    } while (!stopping_ && now_ns() < end_ns);
  }

  void take(const Beat& beat, const BeatAddress& from) {
    if (beat.job != plan_.job || beat.rank >= peers_.size() || beat.rank == own()) return;
    Peer& peer = peers_[beat.rank];
    if (!peer.is_heard) peer.addresses.assign(1, from);
    peer.silent_ms = 0;
    peer.still_ms = beat.still_ms;
    peer.has_left |= beat.kind == Beat::Kind::leaving;
    peer.is_heard = true;
  }

  // Where more than two beats should have been sent, this process did not run: nobody else has to answer for that.
  void pass_time(std::uint64_t passed_ns) {
    const std::uint64_t passed_ms = std::min(passed_ns / ns_per_ms, 2 * static_cast<std::uint64_t>(interval_.count()));
    still_ms_ = moved_(passed_ns) ? 0 : still_ms_ + passed_ms;
    for (Peer& peer : peers_) peer.silent_ms += passed_ms;
    peers_[own()].silent_ms = 0;
    peers_[own()].still_ms = still_ms_;
  }

  bool is_watched(const Peer& peer) const { return peer.is_heard && !peer.has_left; }

  /// What is wrong, or nothing.
  std::string judge() const {
    // One that has left may have accused somebody: it is given time to end the job.
    const bool is_first = std::none_of(peers_.begin(), peers_.begin() + plan_.rank, [&](const Peer& peer) {
      return peer.is_heard && (peer.has_left || peer.silent_ms < limit_ms() / 2);
    });
    const std::uint64_t limit = limit_ms() + (is_first ? 0 : static_cast<std::uint64_t>(head_start.count()));
    const std::string seconds = std::to_string(limit_ms() / 1000) + " s (--rank-timeout)";
    for (std::size_t r = 0; r < peers_.size(); ++r)
      if (is_watched(peers_[r]) && peers_[r].silent_ms >= limit)
        return plan_.ranks[r].name + " has not answered for " + seconds;
    const bool all_still = std::all_of(peers_.begin(), peers_.end(), [&](const Peer& peer) {
      return is_watched(peer) && peer.still_ms >= limit && peer.silent_ms < limit_ms() / 2;
    });
    if (!all_still) return "";
    // It was the first to stand, and the others wait for it.
    const auto stillest = std::max_element(peers_.begin(), peers_.end(),
                                           [](const Peer& a, const Peer& b) { return a.still_ms < b.still_ms; });
    return "no rank has got anywhere for " + seconds + "; " +
           plan_.ranks[static_cast<std::size_t>(stillest - peers_.begin())].name + " was the first to stand still";
  }

  const BeatSocket socket_;
  const WatchPlan plan_;
  const Moved moved_;
  const OnLost on_lost_;
  const milliseconds interval_;
  std::vector<Peer> peers_;  // [size]
  std::atomic<std::uint64_t> still_ms_{0};
  std::atomic<bool> stopping_{false};
};

RankWatch::RankWatch(BeatSocket socket, WatchPlan plan, Moved moved, OnLost on_lost)
    : watching_(std::make_unique<Watching>(std::move(socket), std::move(plan), std::move(moved), std::move(on_lost))),
      thread_([this] { watching_->run(); }) {}

RankWatch::~RankWatch() {
  watching_->stop();
  thread_.join();
}

int RankWatch::wait_until_heard(milliseconds limit) const {
  const auto end = std::chrono::steady_clock::now() + limit;
  while (watching_->num_unheard() > 0 && std::chrono::steady_clock::now() < end) std::this_thread::sleep_for(1ms);
  return watching_->num_unheard();
}

}  // namespace flexgen

// A Transport whose messages take their time: each channel is a wire of its own, with a latency and a bandwidth.
#pragma once

#include <algorithm>
#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <map>
#include <memory>
#include <mutex>
#include <thread>
#include <utility>
#include <vector>

#include "base/error.hpp"
#include "base/trace.hpp"
#include "comm/transport.hpp"

namespace flexgen::test {

struct WireSpeed {
  std::chrono::nanoseconds latency{0};
  double bytes_per_second = 1e12;
};

/// Done when the last byte has left; it arrives a latency later.
class DepartingOp final : public PendingOp {
 public:
  explicit DepartingOp(std::uint64_t departs_ns) : departs_ns_(departs_ns) {}
  bool done() override { return now_ns() >= departs_ns_; }
  void wait() override {
    if (const std::uint64_t now = now_ns(); now < departs_ns_)
      std::this_thread::sleep_for(std::chrono::nanoseconds(departs_ns_ - now));
  }
  std::uint64_t done_ns() const override { return departs_ns_; }

 private:
  std::uint64_t departs_ns_;
};

class SlowTransport final : public Transport {
 public:
  /// `inner` must outlive it.
  SlowTransport(Transport& inner, WireSpeed speed)
      : inner_(inner), speed_(speed), courier_([this](const std::stop_token& stop) { deliver(stop); }) {}

  int rank() const override { return inner_.rank(); }
  int world_size() const override { return inner_.world_size(); }
  std::string_view name() const override { return inner_.name(); }

  std::unique_ptr<PendingOp> send(std::span<const std::byte> data, int to, Channel channel) override {
    return std::make_unique<DepartingOp>(dispatch(data, to, channel));
  }
  std::unique_ptr<PendingOp> recv(std::span<std::byte> data, int from, Channel channel) override {
    return inner_.recv(data, from, channel);
  }
  void send_message(std::span<const std::byte> data, int to, Channel channel) override { dispatch(data, to, channel); }
  std::unique_ptr<PendingMessage> start_recv_message(int from, Channel channel) override {
    return inner_.start_recv_message(from, channel);
  }

 private:
  struct Parcel {
    std::vector<std::byte> data;
    int to;
    Channel channel;
  };

  /// When its last byte departs.
  std::uint64_t dispatch(std::span<const std::byte> data, int to, Channel channel) {
    const auto wire_ns = static_cast<std::uint64_t>(static_cast<double>(data.size()) / speed_.bytes_per_second * 1e9);
    const std::lock_guard lock(mutex_);
    std::uint64_t& free_ns = free_ns_[{to, channel}];
    free_ns = std::max(free_ns, now_ns()) + wire_ns;
    under_way_.emplace(free_ns + static_cast<std::uint64_t>(speed_.latency.count()),
                       Parcel{{data.begin(), data.end()}, to, channel});
    changed_.notify_one();
    return free_ns;
  }

  void deliver(const std::stop_token& stop) {
    std::unique_lock lock(mutex_);
    while (true) {
      changed_.wait(lock, stop, [this] { return !under_way_.empty(); });
      if (under_way_.empty()) return;  // stopped, and all is delivered
      const auto first = under_way_.begin();
      if (const std::uint64_t now = now_ns(); now < first->first) {
        changed_.wait_for(lock, std::chrono::nanoseconds(first->first - now), [] { return false; });
        continue;
      }
      const Parcel parcel = std::move(first->second);
      under_way_.erase(first);
      lock.unlock();
      try {
        inner_.send_message(parcel.data, parcel.to, parcel.channel);
      } catch (const Error&) {  // the job is ending: its ranks hear of that themselves
      }
      lock.lock();
    }
  }

  Transport& inner_;
  const WireSpeed speed_;
  std::mutex mutex_;
  std::condition_variable_any changed_;
  std::map<std::pair<int, Channel>, std::uint64_t> free_ns_;  // when a wire is free
  std::multimap<std::uint64_t, Parcel> under_way_;            // by arrival
  std::jthread courier_;
};

}  // namespace flexgen::test

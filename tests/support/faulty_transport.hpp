// A Transport that fails one call of its life; all others pass through to the inner transport.
#pragma once

#include <atomic>
#include <memory>
#include <string>

#include "base/error.hpp"
#include "comm/transport.hpp"

namespace flexgen::test {

enum class TransportCall { send, recv, send_message, recv_message };

class FaultyTransport final : public Transport {
 public:
  /// Fails the `failing_call`-th call (counted from 0) of this kind on this channel. `inner` must outlive it.
  FaultyTransport(Transport& inner, TransportCall kind, Channel channel, int failing_call)
      : inner_(inner), kind_(kind), channel_(channel), failing_call_(failing_call) {}

  int rank() const override { return inner_.rank(); }
  int world_size() const override { return inner_.world_size(); }
  std::string_view name() const override { return inner_.name(); }

  std::unique_ptr<PendingOp> send(std::span<const std::byte> data, int to, Channel channel) override {
    count(TransportCall::send, channel);
    return inner_.send(data, to, channel);
  }
  std::unique_ptr<PendingOp> recv(std::span<std::byte> data, int from, Channel channel) override {
    count(TransportCall::recv, channel);
    return inner_.recv(data, from, channel);
  }
  void send_message(std::span<const std::byte> data, int to, Channel channel) override {
    count(TransportCall::send_message, channel);
    inner_.send_message(data, to, channel);
  }
  std::unique_ptr<PendingMessage> start_recv_message(int from, Channel channel) override {
    count(TransportCall::recv_message, channel);
    return inner_.start_recv_message(from, channel);
  }

 private:
  void count(TransportCall kind, Channel channel) {
    if (kind != kind_ || channel != channel_ || num_calls_++ != failing_call_) return;
    throw SystemError(ExitCode::communication, "injected on " + std::string(channel_name(channel)), "the link is down");
  }

  Transport& inner_;
  const TransportCall kind_;
  const Channel channel_;
  const int failing_call_;
  std::atomic<int> num_calls_{0};
};

}  // namespace flexgen::test

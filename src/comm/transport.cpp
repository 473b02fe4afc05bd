#include "comm/transport.hpp"

#include <string>

#include "base/error.hpp"

namespace flexgen {

std::string_view channel_name(Channel channel) {
  switch (channel) {
    case Channel::control: return "control";
    case Channel::hidden: return "hidden";
    case Channel::tokens: return "tokens";
    case Channel::report: return "report";
  }
  return "unknown";
}

std::vector<std::byte> Transport::recv_message(int from, Channel channel) {
  const std::unique_ptr<PendingMessage> message = start_recv_message(from, channel);
  message->wait();
  return message->take();
}

void Transport::send_on_stream(const void*, std::size_t, int, void*) {
  throw InternalError("transport '" + std::string(name()) + "' cannot send in stream order");
}

void Transport::recv_on_stream(void*, std::size_t, int, void*) {
  throw InternalError("transport '" + std::string(name()) + "' cannot receive in stream order");
}

void Transport::check_peer(int peer) const {
  FLEXGEN_CHECK(peer >= 0 && peer < world_size(),
                "rank " + std::to_string(peer) + " is not in a world of " + std::to_string(world_size()));
}

}  // namespace flexgen

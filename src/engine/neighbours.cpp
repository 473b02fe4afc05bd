#include "engine/neighbours.hpp"

#include <cstring>

#include "base/error.hpp"

namespace flexgen {

Neighbours::Neighbours(Transport* transport, const Device& device, std::uint64_t staging_bytes)
    : transport_(transport), through_host_(transport && device.is_cuda() && !transport->moves_device_memory()) {
  if (through_host_ && has_upstream()) receive_staging_ = Buffer(MemoryKind::pinned, staging_bytes, device);
  if (through_host_ && has_downstream()) send_staging_ = Buffer(MemoryKind::pinned, staging_bytes, device);
}

void Neighbours::receive_hidden(std::byte* to, std::uint64_t bytes, Transfer& transfer) {
  const int from = transport_->rank() - 1;
  Stream& stream = transfer.stream();
  if (transport_->moves_device_memory()) {
    const StreamSpan span(stream, Resource::recv, "hidden", bytes);
    transport_->recv_on_stream(to, bytes, from, stream.native());
    return;
  }
  std::byte* host = through_host_ ? receive_staging_.data() : to;
  {
    const TraceSpan span(stream.tracer(), Resource::recv, "hidden", bytes);
    transport_->recv({host, bytes}, from, Channel::hidden)->wait();
  }
  if (!through_host_) return;
  transfer.host_to_gpu(to, host, bytes, "received hidden");
  stream.record_in_task()->synchronize();  // the staging memory is used again for the next micro-batch
}

void Neighbours::send_hidden(const std::byte* from, std::uint64_t bytes, Transfer& transfer) {
  const int to = transport_->rank() + 1;
  Stream& stream = transfer.stream();
  if (transport_->moves_device_memory()) {
    const StreamSpan span(stream, Resource::send, "hidden", bytes);
    transport_->send_on_stream(from, bytes, to, stream.native());
    return;
  }
  const std::byte* host = from;
  if (through_host_) {
    transfer.gpu_to_host(send_staging_.data(), from, bytes, "sent hidden");
    stream.record_in_task()->synchronize();
    host = send_staging_.data();
  }
  const TraceSpan span(stream.tracer(), Resource::send, "hidden", bytes);
  transport_->send({host, bytes}, to, Channel::hidden)->wait();
}

void Neighbours::send_tokens(const SampledTokens& tokens) {
  std::vector<std::byte> message(sizeof(std::int64_t) + sizeof(std::int32_t) +
                                 tokens.tokens.size() * sizeof(std::int32_t));
  std::memcpy(message.data(), &tokens.sweep, sizeof tokens.sweep);
  std::memcpy(message.data() + 8, &tokens.micro_batch, sizeof tokens.micro_batch);
  if (!tokens.tokens.empty())
    std::memcpy(message.data() + 12, tokens.tokens.data(), tokens.tokens.size() * sizeof(std::int32_t));
  transport_->send_message(message, 0, Channel::tokens);
}

SampledTokens Neighbours::receive_tokens() {
  const std::vector<std::byte> message = transport_->recv_message(transport_->world_size() - 1, Channel::tokens);
  FLEXGEN_CHECK(message.size() >= 12 && (message.size() - 12) % sizeof(std::int32_t) == 0,
                "token message is malformed");
  SampledTokens tokens;
  std::memcpy(&tokens.sweep, message.data(), sizeof tokens.sweep);
  std::memcpy(&tokens.micro_batch, message.data() + 8, sizeof tokens.micro_batch);
  tokens.tokens.resize((message.size() - 12) / sizeof(std::int32_t));
  if (!tokens.tokens.empty()) std::memcpy(tokens.tokens.data(), message.data() + 12, message.size() - 12);
  return tokens;
}

}  // namespace flexgen

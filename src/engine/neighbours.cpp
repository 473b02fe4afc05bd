#include "engine/neighbours.hpp"

#include <cstring>

#include "base/error.hpp"

namespace flexgen {
namespace {
constexpr std::size_t token_header_bytes = 16;  // sweep, micro-batch, number of tokens
}

Neighbours::Neighbours(Transport* transport, TierMemory& memory)
    : transport_(transport),
      through_host_(transport && memory.device().is_cuda() && !transport->moves_device_memory()) {
  if (through_host_ && has_upstream()) receive_staging_ = memory.on_host(Piece::received_hidden);
  if (through_host_ && has_downstream()) send_staging_ = memory.on_host(Piece::sent_hidden);
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
  const auto num_tokens = static_cast<std::int32_t>(tokens.tokens.size());
  const std::size_t token_bytes = tokens.tokens.size() * sizeof(std::int32_t);
  const std::size_t score_bytes = tokens.scores.size() * sizeof(float);
  std::vector<std::byte> message(token_header_bytes + token_bytes + score_bytes);
  std::memcpy(message.data(), &tokens.sweep, sizeof tokens.sweep);
  std::memcpy(message.data() + 8, &tokens.micro_batch, sizeof tokens.micro_batch);
  std::memcpy(message.data() + 12, &num_tokens, sizeof num_tokens);
  if (token_bytes > 0) std::memcpy(message.data() + token_header_bytes, tokens.tokens.data(), token_bytes);
  if (score_bytes > 0)
    std::memcpy(message.data() + token_header_bytes + token_bytes, tokens.scores.data(), score_bytes);
  transport_->send_message(message, 0, Channel::tokens);
}

SampledTokens Neighbours::receive_tokens() {
  const std::vector<std::byte> message = transport_->recv_message(transport_->world_size() - 1, Channel::tokens);
  FLEXGEN_CHECK(message.size() >= token_header_bytes, "token message is malformed");
  SampledTokens tokens;
  std::int32_t num_tokens = 0;
  std::memcpy(&tokens.sweep, message.data(), sizeof tokens.sweep);
  std::memcpy(&tokens.micro_batch, message.data() + 8, sizeof tokens.micro_batch);
  std::memcpy(&num_tokens, message.data() + 12, sizeof num_tokens);
  const std::size_t body = message.size() - token_header_bytes;
  const std::size_t token_bytes = static_cast<std::size_t>(std::max(0, num_tokens)) * sizeof(std::int32_t);
  FLEXGEN_CHECK(num_tokens >= 0 && (body == token_bytes || body == 2 * token_bytes), "token message is malformed");
  tokens.tokens.resize(static_cast<std::size_t>(num_tokens));
  tokens.scores.resize((body - token_bytes) / sizeof(float));
  if (token_bytes > 0) std::memcpy(tokens.tokens.data(), message.data() + token_header_bytes, token_bytes);
  if (body > token_bytes)
    std::memcpy(tokens.scores.data(), message.data() + token_header_bytes + token_bytes, body - token_bytes);
  return tokens;
}

}  // namespace flexgen

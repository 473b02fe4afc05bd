#include "engine/neighbours.hpp"

#include <cstring>

#include "base/error.hpp"

namespace flexgen {
namespace {

constexpr std::size_t token_header_bytes = 16;  // sweep, micro-batch, number of tokens
constexpr const char* malformed = "token message is malformed";

template <class T>
void append(std::vector<std::byte>& message, const T* first, std::size_t count) {
  const auto* raw = reinterpret_cast<const std::byte*>(first);
  message.insert(message.end(), raw, raw + count * sizeof(T));
}

// The message is as long: its length has been looked at.
template <class T>
void take(std::span<const std::byte>& rest, T* first, std::size_t count) {
  if (count > 0) std::memcpy(first, rest.data(), count * sizeof(T));
  rest = rest.subspan(count * sizeof(T));
}

}  // namespace

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

// Scores stand behind the tokens where there are any, alternatives behind these: the length tells.
void Neighbours::send_tokens(const SampledTokens& tokens) {
  const auto num_tokens = static_cast<std::int32_t>(tokens.tokens.size());
  std::vector<std::byte> message;
  message.reserve(token_header_bytes +
                  sizeof(std::int32_t) * (tokens.tokens.size() + tokens.scores.size() + 2 * tokens.top_tokens.size()));
  append(message, &tokens.sweep, 1);
  append(message, &tokens.micro_batch, 1);
  append(message, &num_tokens, 1);
  append(message, tokens.tokens.data(), tokens.tokens.size());
  append(message, tokens.scores.data(), tokens.scores.size());
  append(message, tokens.top_tokens.data(), tokens.top_tokens.size());
  append(message, tokens.top_scores.data(), tokens.top_scores.size());
  transport_->send_message(message, 0, Channel::tokens);
}

SampledTokens Neighbours::receive_tokens() {
  const std::vector<std::byte> message = transport_->recv_message(transport_->world_size() - 1, Channel::tokens);
  FLEXGEN_CHECK(message.size() >= token_header_bytes, malformed);
  std::span<const std::byte> rest(message);
  SampledTokens tokens;
  std::int32_t num_tokens = 0;
  take(rest, &tokens.sweep, 1);
  take(rest, &tokens.micro_batch, 1);
  take(rest, &num_tokens, 1);
  FLEXGEN_CHECK(num_tokens >= 0 && (num_tokens > 0 || rest.empty()), malformed);
  const auto count = static_cast<std::size_t>(num_tokens);
  const std::size_t parts = count == 0 ? 1 : rest.size() / (count * sizeof(std::int32_t));  // an entry of each output
  FLEXGEN_CHECK((parts == 1 || parts % 2 == 0) && parts > 0 && rest.size() == parts * count * sizeof(std::int32_t),
                malformed);
  tokens.tokens.resize(count);
  take(rest, tokens.tokens.data(), count);
  if (parts == 1) return tokens;
  tokens.scores.resize(count);
  take(rest, tokens.scores.data(), count);
  tokens.max_top = static_cast<std::int32_t>(parts / 2) - 1;
  tokens.top_tokens.resize(count * (parts / 2 - 1));
  tokens.top_scores.resize(tokens.top_tokens.size());
  take(rest, tokens.top_tokens.data(), tokens.top_tokens.size());
  take(rest, tokens.top_scores.data(), tokens.top_scores.size());
  return tokens;
}

}  // namespace flexgen

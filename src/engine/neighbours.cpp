#include "engine/neighbours.hpp"

#include <cstring>
#include <span>
#include <utility>

#include "base/error.hpp"

namespace flexgen {
namespace {

// First byte of an announcement.
constexpr std::byte sweep_message{1};
constexpr std::byte end_message{2};

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

Neighbours::Neighbours(Transport* transport, TierMemory& memory, std::uint64_t token_bytes, WaitTimes* waits)
    : transport_(transport), token_bytes_(token_bytes), waits_(waits), on_gpu_(memory.device().is_cuda()) {
  if (!transport_ || (on_gpu_ && transport_->moves_device_memory())) return;
  if (has_upstream()) arrivals_ = std::make_unique<ArrivalPlaces>(*transport_, memory);
  if (has_downstream()) departures_ = std::make_unique<DeparturePlaces>(*transport_, memory, waits);
}

void Neighbours::announce(const SweepWork& work) {
  std::vector<std::byte> message{sweep_message};
  const std::vector<std::byte> body = encode_work(work);
  message.insert(message.end(), body.begin(), body.end());
  tell_others(message);
}

void Neighbours::announce_end() { tell_others({&end_message, 1}); }

void Neighbours::tell_others(std::span<const std::byte> message) {
  if (!transport_) return;
  for (int rank = 1; rank < transport_->world_size(); ++rank) transport_->send_message(message, rank, Channel::control);
}

std::optional<SweepWork> Neighbours::next_sweep() {
  if (!announced_ && !has_ended_) {
    listen();
    const WaitSpan span(waits_, Wait::turn);
    announcement_->wait();
    read_announcement();
  }
  return std::exchange(announced_, std::nullopt);
}

void Neighbours::look_ahead() {
  if (!arrivals_ || announced_ || has_ended_) return;
  listen();
  if (announcement_->done()) read_announcement();
}

void Neighbours::listen() {
  if (!announcement_) announcement_ = transport_->start_recv_message(0, Channel::control);
}

void Neighbours::read_announcement() {
  const std::vector<std::byte> message = announcement_->take();
  announcement_.reset();
  FLEXGEN_CHECK(!message.empty(), "control message is empty");
  has_ended_ = message.front() == end_message;
  if (has_ended_) return;
  FLEXGEN_CHECK(message.front() == sweep_message, "control message of unknown kind");
  announced_ = decode_work(std::span(message).subspan(1));
  if (!arrivals_) return;
  std::vector<std::uint64_t> bytes;
  for (const MicroBatchWork& batch : announced_->micro_batches)
    bytes.push_back(static_cast<std::uint64_t>(batch.num_tokens()) * token_bytes_);
  arrivals_->expect(bytes);
}

void Neighbours::receive_hidden(std::byte* to, std::uint64_t bytes, Transfer& transfer) {
  Stream& stream = transfer.stream();
  if (!arrivals_) {
    const StreamSpan span(stream, Resource::recv, "hidden", bytes);
    transport_->recv_on_stream(to, bytes, transport_->rank() - 1, stream.native());
    return;
  }
  const std::span<const std::byte> states = arrivals_->take(stream.tracer());
  FLEXGEN_CHECK(states.size() == bytes, "a micro-batch is not as large as it was announced");
  if (on_gpu_) {
    transfer.host_to_gpu(to, states.data(), bytes, "received hidden");
    stream.record_in_task()->synchronize();  // the place is another micro-batch's next
  } else {
    std::memcpy(to, states.data(), bytes);
  }
  arrivals_->give_back();
}

void Neighbours::send_hidden(const std::byte* from, std::uint64_t bytes, Transfer& transfer) {
  Stream& stream = transfer.stream();
  if (!departures_) {
    const StreamSpan span(stream, Resource::send, "hidden", bytes);
    transport_->send_on_stream(from, bytes, transport_->rank() + 1, stream.native());
    return;
  }
  const std::span<std::byte> place = departures_->next(bytes, stream.tracer());
  if (on_gpu_) {
    transfer.gpu_to_host(place.data(), from, bytes, "sent hidden");
    stream.record_in_task()->synchronize();
  } else {
    std::memcpy(place.data(), from, bytes);
  }
  departures_->send(place, stream.tracer());
}

void Neighbours::finish_sending(Tracer* tracer) {
  if (departures_) departures_->finish(tracer);
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
  const auto receive = [this] {
    const WaitSpan span(waits_, Wait::turn);
    return transport_->recv_message(transport_->world_size() - 1, Channel::tokens);
  };
  const std::vector<std::byte> message = receive();
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

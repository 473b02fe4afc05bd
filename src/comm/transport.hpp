// Moving bytes between ranks, point to point.
//
// Messages are ordered per (sender, receiver, channel); channels are independent of each other, so that a long
// hidden state never holds up a control message. All methods may be called from any thread of the rank.
// Ownership: the caller owns every buffer and keeps it alive until the operation is done.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string_view>
#include <vector>

namespace flexgen {

/// An independent, ordered lane between two ranks.
enum class Channel : int {
  control,  // rank 0 tells the others what comes next
  hidden,   // hidden states from stage r to stage r + 1; device memory where moves_device_memory()
  tokens,   // sampled tokens from the last stage to rank 0
  report,   // measurements at the end
};
inline constexpr int num_channels = 4;
std::string_view channel_name(Channel channel);

/// A send or receive under way. One owner; used by one thread at a time.
class PendingOp {
 public:
  PendingOp() = default;
  PendingOp(const PendingOp&) = delete;
  PendingOp& operator=(const PendingOp&) = delete;
  /// An unfinished operation is cancelled (receive) or given two seconds to complete (send), so that the buffer
  /// may be freed while an exception unwinds.
  virtual ~PendingOp() = default;

  /// True when the buffer may be reused. Throws what wait() would throw if the operation has failed.
  virtual bool done() = 0;
  /// Blocks until done; throws Error (communication) if the operation or the peer failed.
  virtual void wait() = 0;
  /// When it was done, on the scale of now_ns(). Call it once done() is true or wait() has returned.
  virtual std::uint64_t done_ns() const = 0;
};

/// A message on its way in whose size nobody knows yet.
class PendingMessage : public PendingOp {
 public:
  /// Its bytes, once done.
  virtual std::vector<std::byte> take() = 0;
};

class Transport {
 public:
  Transport() = default;
  Transport(const Transport&) = delete;
  Transport& operator=(const Transport&) = delete;
  virtual ~Transport() = default;

  virtual int rank() const = 0;
  virtual int world_size() const = 0;
  /// "in-process", "mpi" or "nccl".
  virtual std::string_view name() const = 0;

  /// Starts sending; done means that the buffer is free, not that the peer has it. A send may stay pending until
  /// the peer posts its receive: never wait for one before posting a receive that the peer's progress needs.
  virtual std::unique_ptr<PendingOp> send(std::span<const std::byte> data, int to, Channel channel) = 0;
  /// Starts receiving exactly data.size() bytes; a message of another size fails the operation and
  /// is dropped (NCCL's device memory excepted: there both sides must know the size).
  virtual std::unique_ptr<PendingOp> recv(std::span<std::byte> data, int from, Channel channel) = 0;

  /// Sends bytes whose number the receiver does not know. Buffered: returns at once, and never waits for the peer.
  /// Matches either kind of receive. Host memory on every channel.
  virtual void send_message(std::span<const std::byte> data, int to, Channel channel) = 0;
  /// Starts receiving the next message of the channel, whatever its size. Receives of both kinds take the messages of
  /// a channel in the order in which they were started.
  virtual std::unique_ptr<PendingMessage> start_recv_message(int from, Channel channel) = 0;
  /// The same, and blocks for it.
  std::vector<std::byte> recv_message(int from, Channel channel);

  /// True: buffers of send/recv on Channel::hidden are device memory, and the two calls below work.
  virtual bool moves_device_memory() const { return false; }
  /// Stream-ordered twins of send/recv on Channel::hidden: they run after what `cuda_stream` holds and before what
  /// is queued on it later, and return at once. Both sides must name the same number of bytes.
  /// InternalError unless moves_device_memory().
  virtual void send_on_stream(const void* data, std::size_t num_bytes, int to, void* cuda_stream);
  virtual void recv_on_stream(void* data, std::size_t num_bytes, int from, void* cuda_stream);

 protected:
  /// Throws InternalError unless `peer` is a rank of this world.
  void check_peer(int peer) const;
};

}  // namespace flexgen

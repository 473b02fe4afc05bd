#include "probe/link_probe.hpp"

#include <algorithm>
#include <array>
#include <deque>
#include <limits>

#include "base/bytes.hpp"
#include "base/trace.hpp"
#include "comm/exchange.hpp"
#include "device/buffer.hpp"
#include "device/stream.hpp"

namespace flexgen {
namespace {

constexpr std::uint64_t small_bytes = 8;
constexpr std::array<std::uint64_t, 4> message_sizes{64 * KiB, 1 * MiB, 16 * MiB, 64 * MiB};
constexpr std::uint64_t num_in_flight = 4;

// One end of the link, whatever kind of memory it moves.
class End {
 public:
  End(Transport& transport, int peer, const Device& device, std::uint64_t largest_bytes)
      : transport_(transport),
        peer_(peer),
        on_stream_(transport.moves_device_memory()),
        stream_("link probe", Stream::Mode::inline_tasks, on_stream_ ? device : Device{}),
        memory_(on_stream_ ? MemoryKind::device : MemoryKind::pageable, largest_bytes, device) {
    if (!on_stream_) std::fill_n(memory_.data(), largest_bytes, std::byte{0x5a});
  }

  void send(std::uint64_t bytes) {
    std::byte* place = next_place(bytes);
    if (on_stream_) transport_.send_on_stream(place, bytes, peer_, stream_.native());
    else under_way_.push_back(transport_.send({place, bytes}, peer_, Channel::hidden));
  }
  void receive(std::uint64_t bytes) {
    std::byte* place = next_place(bytes);
    if (on_stream_) transport_.recv_on_stream(place, bytes, peer_, stream_.native());
    else under_way_.push_back(transport_.recv({place, bytes}, peer_, Channel::hidden));
  }
  /// Until all that was started is done.
  void wait() {
    for (auto& op : under_way_) op->wait();
    under_way_.clear();
    if (on_stream_) stream_.synchronize();
  }

 private:
  // Messages under way have memory of their own: as many as fit, up to num_in_flight.
  std::byte* next_place(std::uint64_t bytes) {
    const std::uint64_t num_places = std::clamp<std::uint64_t>(memory_.size_bytes() / bytes, 1, num_in_flight);
    while (under_way_.size() >= num_places) {
      under_way_.front()->wait();
      under_way_.pop_front();
    }
    turn_ = (turn_ + 1) % num_places;
    return memory_.data() + turn_ * bytes;
  }

  Transport& transport_;
  int peer_;
  bool on_stream_;
  Stream stream_;
  Buffer memory_;
  std::deque<std::unique_ptr<PendingOp>> under_way_;
  std::uint64_t turn_ = 0;
};

// Seconds that `num_messages` take, the receiver's answer included. The sender's clock counts.
double run_messages(End& end, bool sends, std::uint64_t bytes, int num_messages) {
  const std::uint64_t begin_ns = now_ns();
  for (int i = 0; i < num_messages; ++i) sends ? end.send(bytes) : end.receive(bytes);
  end.wait();
  sends ? end.receive(small_bytes) : end.send(small_bytes);
  end.wait();
  return static_cast<double>(now_ns() - begin_ns) / 1e9;
}

double round_trip_seconds(End& end, bool sends, int num_trips) {
  const std::uint64_t begin_ns = now_ns();
  for (int i = 0; i < num_trips; ++i) {
    sends ? end.send(small_bytes) : end.receive(small_bytes);
    end.wait();
    sends ? end.receive(small_bytes) : end.send(small_bytes);
    end.wait();
  }
  return static_cast<double>(now_ns() - begin_ns) / 1e9 / num_trips;
}

void measure(End& end, bool sends, bool quick, LinkProfile& link) {
  const int repetitions = quick ? 2 : 4;
  const std::uint64_t target_bytes = (quick ? 32 : 256) * MiB;
  double latency = std::numeric_limits<double>::infinity();
  for (int i = 0; i <= repetitions; ++i) {
    const double seconds = round_trip_seconds(end, sends, quick ? 20 : 100) / 2;
    if (i > 0) latency = std::min(latency, seconds);
  }
  link.latency_seconds = latency;
  for (const std::uint64_t bytes : message_sizes) {
    if (bytes > target_bytes) continue;
    const int count = static_cast<int>(std::clamp<std::uint64_t>(target_bytes / bytes, 1, 512));
    double best = 0;
    for (int i = 0; i <= repetitions; ++i) {
      const double rate = static_cast<double>(bytes) * count / run_messages(end, sends, bytes, count);
      if (i > 0) best = std::max(best, rate);
    }
    link.rates.push_back({bytes, best});
  }
}

}  // namespace

LinkProfile measure_link(Transport& transport, Communicator& ranks, int from, const Device& device, bool quick) {
  const int to = from + 1;
  LinkProfile link;
  link.transport = transport.name();
  link.from = from;
  link.to = to;
  link.same_machine = ranks.place(from).node == ranks.place(to).node;
  const int rank = ranks.rank();
  if (rank == from || rank == to) {
    // Memory is taken before anything is under way: taking it on a GPU may wait for all of its work.
    End end(transport, rank == from ? to : from, device, quick ? 32 * MiB : 64 * MiB);
    transport.send_message({}, rank == from ? to : from, Channel::control);
    transport.recv_message(rank == from ? to : from, Channel::control);
    measure(end, rank == from, quick, link);
  }
  return share(ranks, link, from);
}

}  // namespace flexgen

#include "run/doctor/link_check.hpp"

#include <fmt/core.h>

#include <algorithm>
#include <cstring>
#include <limits>
#include <set>
#include <span>
#include <thread>

#include "base/bytes.hpp"
#include "base/error.hpp"
#include "base/trace.hpp"
#include "comm/exchange.hpp"

namespace flexgen {
namespace {

constexpr int num_trips = 30;
constexpr std::uint64_t first_bytes = 1 * MiB, most_bytes = 32 * MiB, growth = 8;
constexpr double grow_below_seconds = 0.02;  // what takes longer is measured well enough
constexpr double most_seconds = 0.3;         // after two transfers
constexpr int most_transfers = 6;

std::int64_t wall_clock_ns() {
  return std::chrono::duration_cast<std::chrono::nanoseconds>(std::chrono::system_clock::now().time_since_epoch())
      .count();
}

/// This rank's end of a link.
class LinkEnd {
 public:
  LinkEnd(Transport& transport, const Communicator& ranks, int peer, std::chrono::milliseconds answer_within)
      : transport_(transport), ranks_(ranks), peer_(peer), answer_within_(answer_within) {}

  void send(std::span<const std::byte> data) { wait(*transport_.send(data, peer_, Channel::hidden)); }
  void receive(std::span<std::byte> data) { wait(*transport_.recv(data, peer_, Channel::hidden)); }
  template <class Word>
  void tell(Word word) {
    send(std::as_bytes(std::span(&word, 1)));
  }
  template <class Word>
  Word hear() {
    Word word{};
    receive(std::as_writable_bytes(std::span(&word, 1)));
    return word;
  }

 private:
  // No transfer is so large that a link that works at all takes as long. Who waits for long leaves the processor to
  // those that move the data.
  void wait(PendingOp& op) {
    constexpr double short_seconds = 1e-3;
    const std::uint64_t begin_ns = now_ns();
    while (!op.done()) {
      const double seconds = seconds_since(begin_ns);
      if (seconds > std::chrono::duration<double>(answer_within_).count()) fail();
      if (seconds < short_seconds) std::this_thread::yield();
      else std::this_thread::sleep_for(std::chrono::microseconds(100));
    }
  }

  [[noreturn]] void fail() const {
    throw UserError(
        ExitCode::communication,
        fmt::format("{} and {} do not reach each other", ranks_.describe(ranks_.rank()), ranks_.describe(peer_)),
        fmt::format("no answer by MPI within {} s", std::chrono::duration<double>(answer_within_).count()),
        "Check firewalls, and name the network that MPI is to take: mpirun --mca btl_tcp_if_include 10.0.0.0/24 --mca "
        "oob_tcp_if_include 10.0.0.0/24");
  }

  Transport& transport_;
  const Communicator& ranks_;
  int peer_;
  std::chrono::milliseconds answer_within_;
};

double measure_latency(LinkEnd& end, bool begins) {
  double best = std::numeric_limits<double>::infinity();
  for (int i = 0; i < num_trips; ++i) {
    const std::uint64_t begin_ns = now_ns();
    if (begins) end.tell(begin_ns);
    end.hear<std::uint64_t>();
    if (!begins) end.tell(begin_ns);
    best = std::min(best, seconds_since(begin_ns) / 2);
  }
  return best;
}

// Transfers that grow until they take long enough, the best of them; each is announced by its size, the last by 0.
double send_transfers(LinkEnd& end, std::span<std::byte> memory) {
  double best = 0, all_seconds = 0;
  std::uint64_t bytes = first_bytes;
  for (int i = 0; i < most_transfers && (i < 2 || all_seconds < most_seconds); ++i) {
    end.tell(bytes);
    const std::uint64_t begin_ns = now_ns();
    end.send(memory.first(bytes));
    end.hear<std::uint64_t>();
    const double seconds = seconds_since(begin_ns);
    best = std::max(best, static_cast<double>(bytes) / seconds);
    all_seconds += seconds;
    if (seconds < grow_below_seconds) bytes = std::min(bytes * growth, most_bytes);
  }
  end.tell(std::uint64_t{0});
  end.tell(best);
  return best;
}

double receive_transfers(LinkEnd& end, std::span<std::byte> memory) {
  while (const auto bytes = end.hear<std::uint64_t>()) {
    end.receive(memory.first(bytes));
    end.tell(bytes);
  }
  return end.hear<double>();
}

LinkFacts measure_pair(Transport& transport, const Communicator& ranks, int from, int to) {
  LinkFacts link{from, to, ranks.place(from).node == ranks.place(to).node};
  const bool begins = ranks.rank() == from;
  LinkEnd end(transport, ranks, begins ? to : from, answer_limit);
  std::vector<std::byte> memory(most_bytes, std::byte{0x5a});
  link.latency_seconds = measure_latency(end, begins);
  link.bytes_per_second = begins ? send_transfers(end, memory) : receive_transfers(end, memory);
  link.bytes_per_second_back = begins ? receive_transfers(end, memory) : send_transfers(end, memory);
  return link;
}

ClockFacts ask_clock(LinkEnd& end, int rank) {
  ClockFacts clock{rank, 0, std::numeric_limits<double>::infinity()};
  for (int i = 0; i < num_trips; ++i) {
    const std::int64_t asked_ns = wall_clock_ns();
    end.tell(asked_ns);
    const auto told_ns = end.hear<std::int64_t>();
    const double half_trip = static_cast<double>(wall_clock_ns() - asked_ns) * 1e-9 / 2;
    if (half_trip >= clock.uncertainty_seconds) continue;
    clock.uncertainty_seconds = half_trip;
    clock.offset_seconds = static_cast<double>(told_ns - asked_ns) * 1e-9 - half_trip;
  }
  return clock;
}

}  // namespace

std::vector<ClockFacts> measure_clocks(Transport& transport, Communicator& ranks,
                                       std::chrono::milliseconds answer_within) {
  std::vector<ClockFacts> clocks;
  for (int r = 1; r < ranks.size(); ++r) {
    if (ranks.rank() == 0) {
      LinkEnd end(transport, ranks, r, answer_within);
      clocks.push_back(ask_clock(end, r));
    } else if (ranks.rank() == r) {
      LinkEnd end(transport, ranks, 0, answer_within);
      for (int i = 0; i < num_trips; ++i) {
        end.hear<std::int64_t>();
        end.tell(wall_clock_ns());
      }
    }
    ranks.barrier();
  }
  return clocks;
}

std::vector<std::pair<int, int>> choose_links(const std::vector<int>& nodes) {
  const int size = static_cast<int>(nodes.size());
  std::vector<std::pair<int, int>> pairs;
  std::set<std::pair<int, int>> known;  // machines whose link is among the pairs
  const auto add = [&](int a, int b) {
    pairs.emplace_back(a, b);
    known.insert(std::minmax(nodes[static_cast<std::size_t>(a)], nodes[static_cast<std::size_t>(b)]));
  };
  for (int r = 0; r + 1 < size; ++r) add(r, r + 1);
  if (size > 2) add(size - 1, 0);
  const std::set<int> machines(nodes.begin(), nodes.end());
  for (const int a : machines)
    for (const int b : machines)
      if (a < b && !known.contains({a, b})) add(a, b);
  return pairs;
}

LinkFigures measure_links(Transport& transport, Communicator& ranks, const std::vector<std::pair<int, int>>& pairs,
                          std::chrono::seconds limit) {
  const std::uint64_t begin_ns = now_ns();
  LinkFigures figures;
  for (const auto& [from, to] : pairs) {
    const bool has_time = seconds_since(begin_ns) < std::chrono::duration<double>(limit).count();
    if (ranks.broadcast(has_time ? "go" : "") != "go") {
      figures.num_left_out = static_cast<int>(pairs.size() - figures.links.size());
      break;
    }
    LinkFacts link;
    if (ranks.rank() == from || ranks.rank() == to) link = measure_pair(transport, ranks, from, to);
    figures.links.push_back(share(ranks, link, from));
  }
  return figures;
}

}  // namespace flexgen

// Small datagrams (UDP) by which ranks show each other that they are alive, beside MPI: an MPI call that hangs stops
// none.
//
// One thread uses a socket. A datagram that is lost is not missed: the next one says the same.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <utility>
#include <vector>

namespace flexgen {

struct Beat {
  enum class Kind : std::uint32_t { alive, leaving };
  std::uint64_t job = 0;  // a number of the job's own: datagrams of others are dropped
  std::uint32_t rank = 0;
  Kind kind = Kind::alive;
  std::uint64_t still_ms = 0;  // for how long this rank has got nowhere
};

/// Where a socket can be reached.
struct BeatAddress {
  std::uint32_t host = 0;  // IPv4, in the order of the network
  std::uint16_t port = 0;  // likewise
};

/// From which machines a socket is reached.
enum class BeatReach : std::uint8_t { this_machine, network };

class BeatSocket {
 public:
  /// Throws SystemError (communication).
  explicit BeatSocket(BeatReach reach);
  ~BeatSocket();
  BeatSocket(BeatSocket&& other) noexcept : descriptor_(std::exchange(other.descriptor_, -1)), reach_(other.reach_) {}
  BeatSocket& operator=(BeatSocket&&) = delete;

  /// All that it may be reached at, as parse_addresses reads it. Throws SystemError (communication).
  std::string addresses() const;
  int descriptor() const { return descriptor_; }

  void send(const Beat& beat, const BeatAddress& to) const;
  /// The next one that has come, and where it came from; nothing where there is none. Never blocks.
  std::optional<std::pair<Beat, BeatAddress>> receive() const;

 private:
  int descriptor_ = -1;
  BeatReach reach_;
};

std::vector<BeatAddress> parse_addresses(const std::string& text);

}  // namespace flexgen

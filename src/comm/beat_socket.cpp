#include "comm/beat_socket.hpp"

#include <arpa/inet.h>
#include <ifaddrs.h>
#include <net/if.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cerrno>
#include <memory>
#include <sstream>

#include "base/error.hpp"

namespace flexgen {
namespace {

sockaddr_in socket_address(const BeatAddress& address) {
  sockaddr_in to{};
  to.sin_family = AF_INET;
  to.sin_addr.s_addr = address.host;
  to.sin_port = address.port;
  return to;
}

[[noreturn]] void fail(const char* call) {
  throw SystemError(ExitCode::communication, std::string(call) + " for the watch over ranks", errno_text(errno),
                    "--rank-timeout 0 does without it");
}

}  // namespace

BeatSocket::BeatSocket(BeatReach reach) : descriptor_(socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0)), reach_(reach) {
  if (descriptor_ < 0) fail("socket");
  const sockaddr_in any = socket_address({htonl(reach == BeatReach::network ? INADDR_ANY : INADDR_LOOPBACK), 0});
  if (bind(descriptor_, reinterpret_cast<const sockaddr*>(&any), sizeof any) == 0) return;
  close(descriptor_);
  fail("bind");
}

BeatSocket::~BeatSocket() {
  if (descriptor_ >= 0) close(descriptor_);
}

std::string BeatSocket::addresses() const {
  sockaddr_in own{};
  socklen_t size = sizeof own;
  if (getsockname(descriptor_, reinterpret_cast<sockaddr*>(&own), &size) != 0) fail("getsockname");
  std::ostringstream text;
  text << own.sin_port << ' ' << htonl(INADDR_LOOPBACK);
  if (reach_ == BeatReach::this_machine) return text.str();
  ifaddrs* found = nullptr;
  if (getifaddrs(&found) != 0) fail("getifaddrs");
  const std::unique_ptr<ifaddrs, decltype(&freeifaddrs)> all(found, freeifaddrs);
  for (const ifaddrs* link = found; link; link = link->ifa_next) {
    const bool is_usable = link->ifa_addr && link->ifa_addr->sa_family == AF_INET && (link->ifa_flags & IFF_UP) &&
                           !(link->ifa_flags & IFF_LOOPBACK);
    if (is_usable) text << ' ' << reinterpret_cast<const sockaddr_in*>(link->ifa_addr)->sin_addr.s_addr;
  }
  return text.str();
}

void BeatSocket::send(const Beat& beat, const BeatAddress& to) const {
  const sockaddr_in address = socket_address(to);
  // What does not go out is missed by those who wait for it.
  sendto(descriptor_, &beat, sizeof beat, MSG_DONTWAIT | MSG_NOSIGNAL, reinterpret_cast<const sockaddr*>(&address),
         sizeof address);
}

std::optional<std::pair<Beat, BeatAddress>> BeatSocket::receive() const {
  for (;;) {
    Beat beat;
    sockaddr_in from{};
    socklen_t size = sizeof from;
    const ssize_t length =
        recvfrom(descriptor_, &beat, sizeof beat, MSG_DONTWAIT | MSG_TRUNC, reinterpret_cast<sockaddr*>(&from), &size);
    if (length == static_cast<ssize_t>(sizeof beat))
      return std::pair(beat, BeatAddress{from.sin_addr.s_addr, from.sin_port});
    // An error may be that of an earlier datagram, to a rank that has gone.
    if (length < 0 && errno != ECONNREFUSED && errno != EINTR) return std::nullopt;
  }
}

std::vector<BeatAddress> parse_addresses(const std::string& text) {
  std::istringstream words(text);
  std::vector<BeatAddress> addresses;
  BeatAddress address;
  words >> address.port;
  while (words >> address.host) addresses.push_back(address);
  return addresses;
}

}  // namespace flexgen

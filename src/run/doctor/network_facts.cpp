#include <arpa/inet.h>
#include <ifaddrs.h>
#include <net/if.h>
#include <netdb.h>
#include <netinet/in.h>

#include <algorithm>
#include <array>
#include <bit>
#include <fstream>
#include <memory>

#include "run/doctor/own_facts.hpp"

namespace flexgen {
namespace {

namespace fs = std::filesystem;

std::string address_text(const sockaddr* address) {
  std::array<char, INET_ADDRSTRLEN> text{};
  const auto* internet = reinterpret_cast<const sockaddr_in*>(address);
  return inet_ntop(AF_INET, &internet->sin_addr, text.data(), text.size()) ? text.data() : "";
}

int prefix_bits(const sockaddr* mask) {
  return mask ? std::popcount(reinterpret_cast<const sockaddr_in*>(mask)->sin_addr.s_addr) : 32;
}

std::uint64_t megabits_of(const std::string& name, const fs::path& root) {
  std::int64_t megabits = 0;  // -1, or an error, of what has no speed
  std::ifstream(root / "sys/class/net" / name / "speed") >> megabits;
  return static_cast<std::uint64_t>(std::max<std::int64_t>(0, megabits));
}

std::vector<InterfaceFacts> interfaces(const fs::path& root) {
  std::vector<InterfaceFacts> all;
  ifaddrs* found = nullptr;
  if (getifaddrs(&found) != 0) return all;
  const std::unique_ptr<ifaddrs, decltype(&freeifaddrs)> owner(found, freeifaddrs);
  for (const ifaddrs* link = found; link; link = link->ifa_next) {
    const bool is_usable = link->ifa_addr && link->ifa_addr->sa_family == AF_INET && (link->ifa_flags & IFF_UP) &&
                           !(link->ifa_flags & IFF_LOOPBACK);
    if (is_usable)
      all.push_back({link->ifa_name, address_text(link->ifa_addr), prefix_bits(link->ifa_netmask),
                     megabits_of(link->ifa_name, root)});
  }
  return all;
}

std::vector<std::string> addresses_of_own_name() {
  std::vector<std::string> addresses;
  addrinfo wanted{};
  wanted.ai_family = AF_INET;
  wanted.ai_socktype = SOCK_STREAM;
  addrinfo* found = nullptr;
  if (getaddrinfo(host_name().c_str(), nullptr, &wanted, &found) != 0) return addresses;
  const std::unique_ptr<addrinfo, decltype(&freeaddrinfo)> owner(found, freeaddrinfo);
  for (const addrinfo* one = found; one; one = one->ai_next) addresses.push_back(address_text(one->ai_addr));
  return addresses;
}

}  // namespace

NetworkFacts look_at_network(bool ask_for_own_name, const fs::path& root) {
  NetworkFacts facts;
  facts.interfaces = interfaces(root);
  if (ask_for_own_name) facts.host_addresses = addresses_of_own_name();
  return facts;
}

}  // namespace flexgen

#include <arpa/inet.h>
#include <fmt/core.h>

#include <algorithm>
#include <cmath>
#include <set>

#include "run/doctor/judge.hpp"

namespace flexgen {
namespace {

// "10.0.0.0/24", by which machines of one network know each other.
std::string network_of(const InterfaceFacts& interface) {
  in_addr address{};
  if (inet_pton(AF_INET, interface.address.c_str(), &address) != 1) return "";
  const std::uint32_t mask =
      interface.prefix_bits <= 0 ? 0 : ~std::uint32_t{0} << (32 - std::min(32, interface.prefix_bits));
  address.s_addr = htonl(ntohl(address.s_addr) & mask);
  return fmt::format("{}/{}", inet_ntoa(address), interface.prefix_bits);
}

std::vector<int> first_of_each_machine(AllRanks ranks) {
  std::vector<int> first;
  for (std::size_t r = 0; r < ranks.size(); ++r)
    if (ranks[r].launch.node == static_cast<int>(r)) first.push_back(static_cast<int>(r));
  return first;
}

// Addresses of bridges to containers and virtual machines are alike everywhere, and lead nowhere.
void judge_repeated(AllRanks ranks, const std::vector<int>& machines, std::vector<Finding>& findings) {
  std::map<std::pair<std::string, std::string>, std::vector<int>> by_address;
  for (const int r : machines)
    for (const InterfaceFacts& one : ranks[static_cast<std::size_t>(r)].network.interfaces)
      by_address[{one.name, one.address}].push_back(r);
  for (const auto& [interface, members] : by_address)
    if (members.size() > 1)
      findings.push_back(
          warning(members, fmt::format("have the same address {} on {}", interface.second, interface.first),
                  "MPI may take it for a way to the others, and wait for ever",
                  fmt::format("Leave it out: mpirun --mca btl_tcp_if_exclude lo,{0} --mca oob_tcp_if_exclude lo,{0}",
                              interface.first)));
}

void judge_common_network(AllRanks ranks, const std::vector<int>& machines, std::vector<Finding>& findings) {
  std::map<std::string, std::set<std::string>> addresses;  // of a network, one for each machine that is in it
  for (const int r : machines)
    for (const InterfaceFacts& one : ranks[static_cast<std::size_t>(r)].network.interfaces)
      addresses[network_of(one)].insert(one.address);
  const bool has_common =
      std::ranges::any_of(addresses, [&](const auto& one) { return one.second.size() >= machines.size(); });
  if (!has_common)
    findings.push_back(note({}, "no network has an address of every host",
                            "they reach each other through routers, if at all; the links below say how fast"));
}

}  // namespace

std::string name_ranks(AllRanks ranks, const std::vector<int>& which) {
  const auto host = [&](int r) { return ranks[static_cast<std::size_t>(r)].launch.host; };
  if (which.empty() || (which.size() == ranks.size() && which.size() > 1)) return "all ranks";
  if (which.size() == 1) return fmt::format("rank {} on {}", which.front(), host(which.front()));
  constexpr std::size_t most_named = 4;
  std::string text = "ranks ";
  const std::size_t num_named = which.size() > most_named ? most_named - 1 : which.size();
  for (std::size_t i = 0; i < num_named; ++i) {
    const bool is_last = i + 1 == num_named && num_named == which.size();
    text += fmt::format("{}{} ({})", i == 0 ? "" : is_last ? " and " : ", ", which[i], host(which[i]));
  }
  return num_named == which.size() ? text : fmt::format("{} and {} more", text, which.size() - num_named);
}

bool on_several_machines(AllRanks ranks) {
  return std::ranges::any_of(ranks, [&](const RankFacts& rank) { return rank.launch.node != ranks[0].launch.node; });
}

std::string list_groups(AllRanks ranks, const std::map<std::string, std::vector<int>>& groups) {
  std::string text;
  for (const auto& [value, members] : groups)
    text += fmt::format("{}{} on {}", text.empty() ? "" : "; ", value, name_ranks(ranks, members));
  return text;
}

std::vector<Finding> judge_network(AllRanks ranks) {
  std::vector<Finding> findings;
  if (!on_several_machines(ranks)) return findings;
  const std::vector<int> machines = first_of_each_machine(ranks);
  for (const int r : machines) {
    const NetworkFacts& network = ranks[static_cast<std::size_t>(r)].network;
    if (network.interfaces.empty())
      findings.push_back(fault(ExitCode::communication, {r}, "has no network but its own loopback",
                               "no other host can reach it",
                               "Bring an interface up (ip link), or check the container's network"));
    if (std::ranges::any_of(network.host_addresses, [](const std::string& a) { return a.starts_with("127."); }))
      findings.push_back(
          warning({r},
                  fmt::format("its own name, {}, stands for {}", ranks[static_cast<std::size_t>(r)].launch.host,
                              network.host_addresses.front()),
                  "programs that tell others this name, or ask what it stands for, reach themselves",
                  "Put its address on the network into /etc/hosts"));
  }
  judge_repeated(ranks, machines, findings);
  judge_common_network(ranks, machines, findings);
  return join_equal(std::move(findings));
}

std::vector<Finding> judge_clocks(std::span<const ClockFacts> clocks) {
  constexpr double most_seconds = 1;
  std::vector<Finding> findings;
  for (const ClockFacts& clock : clocks)
    if (std::abs(clock.offset_seconds) - clock.uncertainty_seconds > most_seconds)
      findings.push_back(note({clock.rank},
                              fmt::format("its clock is {:.1f} s {} rank 0's", std::abs(clock.offset_seconds),
                                          clock.offset_seconds > 0 ? "ahead of" : "behind"),
                              "times in logs do not go together; results do not depend on them",
                              "Run chrony or systemd-timesyncd on every host"));
  return findings;
}

std::vector<Finding> judge_links(std::span<const LinkFacts> links) {
  constexpr double slow_bytes_per_second = 80e6;  // below what gigabit Ethernet carries
  constexpr double long_seconds = 2e-3;
  constexpr double lopsided = 4;
  std::vector<Finding> findings;
  for (const LinkFacts& link : links) {
    const auto [slower, faster] = std::minmax(link.bytes_per_second, link.bytes_per_second_back);
    const std::string name = fmt::format("the link between ranks {} and {}", link.from, link.to);
    if (link.same_machine) continue;
    if (slower < slow_bytes_per_second)
      findings.push_back(
          warning({}, fmt::format("{} carries {:.1f} MB/s", name, slower * 1e-6),
                  "less than gigabit Ethernet; hidden states of prompts pass it in every sweep",
                  "Check cable and switch, and that MPI takes the fast network (--mca btl_tcp_if_include)"));
    else if (faster > lopsided * slower)
      findings.push_back(warning(
          {}, fmt::format("{} carries {:.0f} MB/s one way and {:.0f} the other", name, faster * 1e-6, slower * 1e-6),
          "one direction is held up", "Check cable, duplex and routes"));
    if (link.latency_seconds > long_seconds)
      findings.push_back(
          warning({}, fmt::format("{} takes {:.1f} ms for a small message", name, link.latency_seconds * 1e3),
                  "every sweep waits for some of them", "Put the hosts on one network"));
  }
  return findings;
}

}  // namespace flexgen

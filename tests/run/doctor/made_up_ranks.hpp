// Ranks that find nothing wrong, for tests to change one thing of.
#pragma once

#include <algorithm>
#include <string>
#include <vector>

#include "base/bytes.hpp"
#include "run/doctor/facts.hpp"

namespace flexgen::test {

inline RankFacts sound_rank() {
  RankFacts rank;
  rank.program = {"0.1.0 (abc)",     "GCC 12.2.0",  true,     "2.36",     "2.36",
                  "Open MPI v4.1.4", "A processor", "avx512", "Linux 6.1"};
  rank.machine.processors = rank.machine.processors_allowed = rank.machine.processors_available = 8;
  rank.machine.memory_bytes = 64 * GiB;
  rank.machine.available_bytes = 60 * GiB;
  rank.machine.open_files = 4096;
  rank.machine.huge_pages = "always";
  rank.disk.folder = {"/scratch", "ext4", "/dev/nvme0n1", 100 * GiB};
  rank.disk.direct = true;
  rank.disk.read_bytes_per_second = rank.disk.write_bytes_per_second = 2e9;
  rank.model = ModelFacts{{"/models/a", "ext4", "/dev/nvme0n1"}, "opt", MiB, {}};
  rank.model->files = {{"config.json", 600, 1}, {"model.safetensors", 9000, 2}};
  return rank;
}

/// One for each host, which has an address of its own in one network.
inline std::vector<RankFacts> sound_ranks(const std::vector<std::string>& hosts) {
  std::vector<RankFacts> ranks;
  for (std::size_t r = 0; r < hosts.size(); ++r) {
    RankFacts& rank = ranks.emplace_back(sound_rank());
    rank.launch.host = hosts[r];
    rank.launch.boot = "boot of " + hosts[r];
    rank.launch.node = static_cast<int>(r);
    for (std::size_t other = 0; other < r; ++other)
      if (hosts[other] == hosts[r]) {
        rank.launch.node = std::min(rank.launch.node, static_cast<int>(other));
        ++rank.launch.local_rank;
      }
    rank.network.interfaces = {{"eth0", "10.0.0." + std::to_string(rank.launch.node + 1), 24, 10000}};
    rank.network.host_addresses = {rank.network.interfaces[0].address};
  }
  for (RankFacts& rank : ranks) {
    rank.launch.local_size = 0;
    for (const RankFacts& other : ranks) rank.launch.local_size += other.launch.node == rank.launch.node;
  }
  return ranks;
}

}  // namespace flexgen::test

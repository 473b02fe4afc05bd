// Clocks of ranks against each other, and what the links between them carry, over the transport of host memory.
//
// What measures is collective. A link that does not answer in time is an error (communication) that names both ends; it
// is thrown on one of them alone, as MPI may not be able to tell the others.
#pragma once

#include <chrono>
#include <utility>
#include <vector>

#include "comm/communicator.hpp"
#include "comm/transport.hpp"
#include "run/doctor/facts.hpp"

namespace flexgen {

/// For how long a small message may be under way.
inline constexpr std::chrono::milliseconds answer_limit{10000};

/// Of every rank but 0, on rank 0; elsewhere empty.
std::vector<ClockFacts> measure_clocks(Transport& transport, Communicator& ranks,
                                       std::chrono::milliseconds answer_within = answer_limit);

/// Pairs of ranks to measure: neighbours in the pipeline, the last with the first, and the other machines with each
/// other, each by its lowest rank.
/// @param nodes  by rank: the lowest rank of its machine
std::vector<std::pair<int, int>> choose_links(const std::vector<int>& nodes);

struct LinkFigures {
  std::vector<LinkFacts> links;
  int num_left_out = 0;  // for which there was no time
};
/// One pair after another, as far as `limit` reaches. On every rank. May take 64 MiB of memory.
LinkFigures measure_links(Transport& transport, Communicator& ranks, const std::vector<std::pair<int, int>>& pairs,
                          std::chrono::seconds limit);

}  // namespace flexgen

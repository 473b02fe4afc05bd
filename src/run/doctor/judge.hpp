// What the facts of all ranks mean for a job: each function judges one check. Pure.
//
// `ranks` is by rank. What is no fault costs a job time or safety, but does not end it.
#pragma once

#include <map>
#include <span>
#include <string>
#include <vector>

#include "run/doctor/facts.hpp"
#include "run/doctor/finding.hpp"
#include "run/job_request.hpp"

namespace flexgen {

using AllRanks = std::span<const RankFacts>;

/// One build everywhere, and whether it suits the machines that it runs on.
std::vector<Finding> judge_program(AllRanks ranks);
/// Who runs where: hosts, containers, processors for each rank.
std::vector<Finding> judge_launch(AllRanks ranks);
std::vector<Finding> judge_machine(AllRanks ranks);
std::vector<Finding> judge_gpu(AllRanks ranks, const MachineRequest& request);
std::vector<Finding> judge_disk(AllRanks ranks);
std::vector<Finding> judge_output(AllRanks ranks);
/// The same model's files on all ranks.
std::vector<Finding> judge_model(AllRanks ranks);
std::vector<Finding> judge_network(AllRanks ranks);
std::vector<Finding> judge_clocks(std::span<const ClockFacts> clocks);
std::vector<Finding> judge_links(std::span<const LinkFacts> links);

/// "rank 1 on host-b"; "ranks 0, 2 and 5 more"; "all ranks".
std::string name_ranks(AllRanks ranks, const std::vector<int>& which);

/// Whether ranks run on more than one machine, as MPI sees it.
bool on_several_machines(AllRanks ranks);

/// A file system that another machine serves, by its kind.
bool is_network_file_system(const std::string& kind);

/// Ranks by what `value_of` says of each.
template <class ValueOf>
std::map<std::string, std::vector<int>> group_ranks(AllRanks ranks, const ValueOf& value_of) {
  std::map<std::string, std::vector<int>> groups;
  for (std::size_t r = 0; r < ranks.size(); ++r) groups[value_of(ranks[r])].push_back(static_cast<int>(r));
  return groups;
}
/// "A on rank 0 on host-a; B on ranks 1 and 2".
std::string list_groups(AllRanks ranks, const std::map<std::string, std::vector<int>>& groups);

}  // namespace flexgen

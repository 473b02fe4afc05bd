#include "run/planning/planned_machines.hpp"

#include <fmt/core.h>

#include <algorithm>
#include <filesystem>
#include <map>
#include <memory>
#include <sstream>

#include "base/error.hpp"
#include "base/json_fields.hpp"
#include "comm/exchange.hpp"
#include "device/buffer.hpp"
#include "model/slice_description.hpp"
#include "ops/parallel_for.hpp"
#include "policy/stage_plan.hpp"
#include "run/machine.hpp"

namespace flexgen {
namespace {

// All but its name: machines that are equal in it are planned as one.
std::string sort_of(PlannedMachine machine) {
  machine.host.clear();
  machine.profile.host.clear();
  machine.profile.measured_at.clear();
  return to_json_text(machine);
}

// "t4.json*4": a file, and how many ranks.
struct Listed {
  std::string file;
  int count = 1;
};

Listed parse_listed(const std::string& word) {
  const std::size_t star = word.rfind('*');
  if (star == std::string::npos) return {word};
  const std::string count = word.substr(star + 1);
  const bool is_number =
      !count.empty() && count.size() <= 4 && count.find_first_not_of("0123456789") == std::string::npos;
  if (!is_number || std::stoi(count) == 0)
    throw UserError(ExitCode::usage, fmt::format("--profiles has '{}'", word), "after * stands a number of ranks",
                    "For example --profiles t4.json*4,a10g.json");
  return {word.substr(0, star), std::stoi(count)};
}

Budgets budgets_of(const HardwareProfile& profile, const std::string& file, const MachineRequest& request) {
  Budgets budgets;
  if (const auto& capacity = profile.capacity) {
    budgets = {capacity->gpu_bytes, capacity->dram_bytes, capacity->disk_bytes};
    if (!profile.gpu) {  // both tiers are host memory: what one has, the other has not
      budgets.gpu_bytes = capacity->dram_bytes * 60 / 100;
      budgets.dram_bytes = capacity->dram_bytes * 25 / 100;
    }
  } else if (!request.gpu_mem || !request.cpu_mem) {
    throw UserError(ExitCode::usage, fmt::format("'{}' does not say how much memory the machine has", file), "",
                    "Give --gpu-mem and --cpu-mem, or measure the profile anew");
  }
  budgets.gpu_bytes = request.gpu_mem.value_or(budgets.gpu_bytes);
  budgets.dram_bytes = request.cpu_mem.value_or(budgets.dram_bytes);
  budgets.ssd_bytes = request.disk_mem.value_or(budgets.ssd_bytes);
  if (profile.gpu) budgets.gpu_bytes -= std::min(budgets.gpu_bytes, gpu_reserve_bytes);
  return budgets;
}

}  // namespace

std::optional<std::vector<PlannedMachine>> machines_of_ranks(const RankProfiles& profiles, const Device& device,
                                                             const Budgets& budgets, Communicator& ranks) {
  PlannedMachine own;
  own.host = ranks.host();
  own.budgets = budgets;
  own.on_gpu = device.is_cuda();
  own.reads_pinned_memory = reads_pinned_memory(device);
  own.num_loop_threads = num_loop_threads();
  std::vector<PlannedMachine> machines = gather(ranks, own);
  for (std::size_t r = 0; r < machines.size(); ++r) {
    if (!profiles[r] || (own.on_gpu && !profiles[r]->profile.gpu)) return std::nullopt;
    machines[r].profile = profiles[r]->profile;
    machines[r].share = profiles[r]->share;
  }
  return machines;
}

std::vector<PlannedMachine> machines_elsewhere(const std::string& profiles, const MachineRequest& request) {
  std::vector<PlannedMachine> machines;
  std::istringstream words(profiles);
  for (std::string word; std::getline(words, word, ',');) {
    const auto [file, count] = parse_listed(word);
    PlannedMachine machine;
    machine.profile = load_profile(file, "").value().profile;
    machine.budgets = budgets_of(machine.profile, file, request);
    machine.on_gpu = machine.profile.gpu.has_value() && request.device != "cpu";
    machine.num_loop_threads = std::max(1, machine.profile.memory.num_processors);
    for (int i = 0; i < count; ++i) {
      machine.host = fmt::format("{} {}", std::filesystem::path(file).stem().string(), machines.size());
      machines.push_back(machine);
    }
  }
  return machines;
}

std::vector<RankToPlan> ranks_to_plan(const std::vector<PlannedMachine>& machines, const ModelSpec& model,
                                      const JobShape& shape, const std::string& transport, bool hidden_through_host) {
  std::map<std::string, std::int32_t> kinds;
  std::vector<RankToPlan> ranks;
  for (const PlannedMachine& machine : machines) {
    const auto kind = kinds.emplace(sort_of(machine), static_cast<std::int32_t>(kinds.size())).first->second;
    const auto stage = [machine = std::make_shared<const PlannedMachine>(machine), model, shape, transport,
                        hidden_through_host](const Policy& policy, const SliceBounds& bounds) {
      const Device device{machine->on_gpu ? DeviceKind::cuda : DeviceKind::host, 0};
      SliceDescription slice = describe_slice(model, bounds, policy.separate_layers, device);
      slice.reads_pinned_memory = machine->reads_pinned_memory;
      slice.num_loop_threads = machine->num_loop_threads;
      StageInput input;
      input.plan = plan_input(model, std::move(slice), policy, shape, {false, false, hidden_through_host});
      input.budgets = machine->budgets;
      rate_stage(input, machine->profile, machine->share, transport);
      return input;
    };
    ranks.push_back({stage, kind, machine.host});
  }
  return ranks;
}

}  // namespace flexgen

// The least time that a job can take on measured hardware: bytes and operations per resource over the resource's
// ceiling. Pure arithmetic: no Torch, CUDA or MPI.
//
// Model: within one sweep the resources work side by side, so it takes as long as the busiest; without overlap they
// take turns. Sweeps follow each other. Where rows roll, prompts and single tokens share sweeps: then what binds is the
// resource with the largest sum over the job; else each phase has its own. What a policy must move is counted exactly
// from its memory plan; activations within a layer are not counted. Rows are taken to be alike: their mean length.
// Source: the roofline model (Williams et al. 2009), applied per resource and phase as in FlexGen's cost model (Sheng
// et al. 2023).
#pragma once

#include <array>
#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "policy/memory_plan.hpp"
#include "policy/op_costs.hpp"
#include "spec/hardware_profile.hpp"

namespace flexgen {

/// What sweeps bring: prompts alone, single tokens alone, or both.
enum class SweepPhase : std::uint8_t { prefill, decode, mixed };
/// "prefill", "decode", "mixed".
std::string_view phase_name(SweepPhase phase);

/// What can bind.
enum class Ceiling : std::uint8_t {
  matrix,      // arithmetic of the device that computes
  gpu_memory,  // bytes that the GPU reads and writes in its own memory
  host_to_gpu,
  gpu_to_host,
  both_directions,  // both of them, where the link gives less than their sum
  host_memory,      // DMA and processors together
  disk,             // reads and writes take turns
  network,          // to the next stage
};
inline constexpr std::size_t num_ceilings = 8;
/// "matrix", "gpu_memory", ...
std::string_view ceiling_name(Ceiling ceiling);

/// The rate of products of so many tokens.
struct TokenRate {
  double tokens = 0;
  double operations = 0;  // per second
};

/// Rates per second that one rank may count on; 0 where unknown: that resource bounds nothing.
struct Ceilings {
  double matrix_operations = 0;
  double gpu_memory_bytes = 0;
  double host_to_gpu_bytes = 0;
  double gpu_to_host_bytes = 0;
  double both_directions_bytes = 0;
  double host_read_bytes = 0;
  double host_copy_bytes = 0;  // bytes read and written by copies and DMA
  double disk_read_bytes = 0;
  double disk_write_bytes = 0;
  double network_bytes = 0;
  double link_loss = 0;  // bytes to the GPU that the link does not carry for each byte that processors read meanwhile
  std::vector<TokenRate> products = {};  // as measured, by tokens; empty: all at matrix_operations
};

/// @param share      of its memory, processors and disk; a rank has a GPU and links of its own
/// @param transport  "mpi" or "nccl"; empty without other stages
Ceilings ceilings_of(const HardwareProfile& profile, bool on_gpu, DType dtype, const MachineShare& share,
                     std::string_view transport);

/// One rank's part of the job; hidden states come and go as the plan's links say.
struct StageInput {
  PlanInput plan;
  Budgets budgets;
  Ceilings ceilings;
  std::shared_ptr<const StageRates> rates = {};  // of its ops; null: not measured
};

/// Sets ceilings and rates of a stage that is planned, as ceilings_of and stage_rates have them.
void rate_stage(StageInput& stage, const HardwareProfile& profile, const MachineShare& share,
                std::string_view transport);

/// Rows that ran, with their mean lengths.
struct RooflineJob {
  std::int64_t num_sequences = 0;
  double prompt_tokens = 0;
  double new_tokens = 0;
  double scored_tokens = 0;    // of the prompt; where there are any the head computes all its positions
  double decode_position = 0;  // mean of where new tokens are read; 0: as in rows that are alike
};

struct Need {
  double seconds = 0;
  double amount = 0;  // bytes; operations for Ceiling::matrix
};
using Needs = std::array<Need, num_ceilings>;

struct PhaseBound {
  Needs needs{};
  double seconds = 0;  // least time of all sweeps of the phase
  Ceiling binding() const;
};

/// Of a job whose sweeps mix the third alone is there, else the first two.
struct StageBound {
  PhaseBound prefill;
  PhaseBound decode;
  PhaseBound mixed;
  const PhaseBound& of(SweepPhase phase) const;
  double seconds() const { return prefill.seconds + decode.seconds + mixed.seconds; }
};

struct RunBound {
  std::vector<StageBound> stages;
  std::size_t slowest = 0;                // stage
  double seconds = 0;                     // whole run
  double tokens_per_second = 0;           // generated or scored tokens over that
  bool unfilled = false;                  // too few rows for all stages: a block's way through them takes longer
  Ceiling binding = Ceiling::matrix;      // of the longest phase of the slowest stage
  SweepPhase phase = SweepPhase::decode;  // that phase
};

/// The whole job on one stage.
StageBound bound_stage(const StageInput& stage, const RooflineJob& job);
/// The slowest stage bounds a pipeline that is full. All stages run the same policy.
RunBound bound_run(std::span<const StageInput> stages, const RooflineJob& job);

/// What one sweep needs that reads the prompts of `beginning` rows (a part of a row counts as such) and a token of each
/// of `decoding`.
using SweepNeeds = std::function<Needs(double beginning, double decoding)>;
/// The stage's; refers to `stage`, which is planned once for all sweeps.
SweepNeeds needs_of_sweeps(const StageInput& stage, const RooflineJob& job);

/// One sentence: the change of policy that fits the budgets and raises the bound most, or what else could.
std::string advise(std::span<const StageInput> stages, const RooflineJob& job, const RunBound& bound);

}  // namespace flexgen

#include "policy/roofline.hpp"

#include <algorithm>
#include <cmath>
#include <map>

#include "base/error.hpp"
#include "policy/stage_traffic.hpp"

namespace flexgen {
namespace {

Needs needs_of(Traffic t, const StageInput& stage) {
  const Ceilings& c = stage.ceilings;
  (stage.plan.on_gpu ? t.gpu_memory : t.host_read) += t.weight_reads;
  Needs needs{};
  const auto set = [&](Ceiling ceiling, double amount, double seconds) {
    needs[static_cast<std::size_t>(ceiling)] = {seconds, amount};
  };
  set(Ceiling::matrix, t.operations, over(t.operations, c.matrix_operations));
  set(Ceiling::gpu_memory, t.gpu_memory, over(t.gpu_memory, c.gpu_memory_bytes));
  set(Ceiling::host_to_gpu, t.host_to_gpu, over(t.host_to_gpu, c.host_to_gpu_bytes));
  set(Ceiling::gpu_to_host, t.gpu_to_host, over(t.gpu_to_host, c.gpu_to_host_bytes));
  const double both = t.host_to_gpu + t.gpu_to_host;
  set(Ceiling::both_directions, both, over(both, c.both_directions_bytes));
  set(Ceiling::host_memory, t.host_moved + t.host_read,
      over(t.host_moved, c.host_copy_bytes) + over(t.host_read, c.host_read_bytes));
  set(Ceiling::disk, t.disk_read + t.disk_write,
      over(t.disk_read, c.disk_read_bytes) + over(t.disk_write, c.disk_write_bytes));
  set(Ceiling::network, t.network, over(t.network, c.network_bytes));
  return needs;
}

double sweep_seconds(const Needs& needs, bool overlap) {
  const auto at = [&](Ceiling ceiling) { return needs[static_cast<std::size_t>(ceiling)].seconds; };
  double longest = 0;
  for (const Need& need : needs) longest = std::max(longest, need.seconds);
  if (overlap) return longest;
  // In turns; host memory takes part in each of them.
  const double links = at(Ceiling::host_to_gpu) + at(Ceiling::gpu_to_host) + at(Ceiling::disk) + at(Ceiling::network);
  return std::max(longest, std::max(at(Ceiling::matrix), at(Ceiling::gpu_memory)) + links);
}

void add_sweeps(const StageTraffic& model, std::span<const SweepRows> kinds, double num_sweeps, PhaseBound& phase) {
  if (num_sweeps <= 0) return;
  const Needs needs = needs_of(model.of(kinds), model.stage());
  for (std::size_t i = 0; i < num_ceilings; ++i) {
    phase.needs[i].seconds += num_sweeps * needs[i].seconds;
    phase.needs[i].amount += num_sweeps * needs[i].amount;
  }
  phase.seconds += num_sweeps * sweep_seconds(needs, model.stage().plan.policy.overlap);
}

// Rows of a block by what they bring, all alike.
struct BlockRows {
  SweepRows prompts;
  SweepRows decoding;
  double num_steps;  // of decode: prefill makes the first token
};

BlockRows rows_of_block(const StageTraffic& model, const RooflineJob& job, double rows) {
  const double micro_batches = std::ceil(rows / model.stage().plan.policy.micro_batch_size);
  const double steps = std::max(0.0, job.new_tokens - 1);
  const double position =
      job.decode_position > 0 ? job.decode_position : job.prompt_tokens + std::max(0.0, steps - 1) / 2;
  return {{rows, 0, job.prompt_tokens, micro_batches, job.scored_tokens > 0 ? job.prompt_tokens : 1},
          {rows, position, 1, micro_batches},
          steps};
}

// All sweeps of `num_blocks` blocks of `rows` rows.
void add_blocks(const StageTraffic& model, const RooflineJob& job, double num_blocks, double rows, StageBound& bound) {
  if (num_blocks <= 0 || rows <= 0) return;
  const BlockRows block = rows_of_block(model, job, rows);
  add_sweeps(model, {&block.prompts, 1}, num_blocks, bound.prefill);
  add_sweeps(model, {&block.decoding, 1}, num_blocks * block.num_steps, bound.decode);
}

// Whether prompts are read beside single tokens: in a block that is refilled, or that cannot begin all at once.
bool sweeps_mix(const PlanInput& plan, const RooflineJob& job) {
  if (plan.policy.rule == BlockRule::fixed || job.new_tokens < 2) return false;
  const auto in_flight = static_cast<double>(plan.policy.block_rows() * plan.policy.num_groups);
  const auto rows = static_cast<double>(job.num_sequences);
  const double budget = plan.policy.num_micro_batches * static_cast<double>(micro_batch_tokens(plan.policy, plan.job));
  return rows > in_flight || std::min(rows, in_flight / plan.policy.num_groups) * job.prompt_tokens > budget;
}

// As many rows as ever may be in flight, of which as many end in every sweep as begin.
void add_mixed_sweeps(const StageTraffic& model, const RooflineJob& job, StageBound& bound) {
  const auto rows = static_cast<double>(std::min(job.num_sequences, model.stage().plan.policy.block_rows()));
  const BlockRows block = rows_of_block(model, job, rows);
  std::array kinds{block.prompts, block.decoding};
  kinds[0].rows = rows / job.new_tokens;
  kinds[1].rows = rows - kinds[0].rows;
  add_sweeps(model, kinds, static_cast<double>(job.num_sequences) * job.new_tokens / rows, bound.mixed);
}

}  // namespace

std::string_view ceiling_name(Ceiling ceiling) {
  static constexpr std::array<std::string_view, num_ceilings> names{
      "matrix", "gpu_memory", "host_to_gpu", "gpu_to_host", "both_directions", "host_memory", "disk", "network"};
  return names[static_cast<std::size_t>(ceiling)];
}

std::string_view phase_name(SweepPhase phase) {
  static constexpr std::array<std::string_view, 3> names{"prefill", "decode", "mixed"};
  return names[static_cast<std::size_t>(phase)];
}

const PhaseBound& StageBound::of(SweepPhase phase) const {
  return phase == SweepPhase::prefill ? prefill : phase == SweepPhase::decode ? decode : mixed;
}

Ceiling PhaseBound::binding() const {
  const auto longest =
      std::max_element(needs.begin(), needs.end(), [](const Need& a, const Need& b) { return a.seconds < b.seconds; });
  return static_cast<Ceiling>(longest - needs.begin());
}

namespace {

// At the point where both together move most.
double link_loss(const GpuProfile& gpu) {
  const auto moved = [](const SharedMemoryRate& rate) {
    return rate.read_bytes_per_second + rate.host_to_gpu_bytes_per_second;
  };
  const auto best = std::ranges::max_element(gpu.beside_host_reads, {}, moved);
  if (best == gpu.beside_host_reads.end() || best->read_bytes_per_second <= 0) return 0;
  const double lost = best_rate(gpu.host_to_gpu) - best->host_to_gpu_bytes_per_second;
  return std::max(0.0, lost / best->read_bytes_per_second);
}

// The best of the sizes that were measured with so many rows.
std::vector<TokenRate> product_rates(const std::vector<MatrixRate>& measured, DType dtype, double share) {
  std::map<std::int64_t, double> best;
  for (const MatrixRate& point : measured)
    if (point.dtype == dtype) best[point.rows] = std::max(best[point.rows], point.operations_per_second);
  std::vector<TokenRate> rates;
  rates.reserve(best.size());
  for (const auto& [rows, operations] : best) rates.push_back({static_cast<double>(rows), share * operations});
  return rates;
}

}  // namespace

Ceilings ceilings_of(const HardwareProfile& profile, bool on_gpu, DType dtype, const MachineShare& share,
                     std::string_view transport) {
  // Beside a GPU it is the link that moves most; else a rank moves what its processors can.
  const double of_memory = on_gpu ? share.memory : share.processors;
  Ceilings c;
  c.host_read_bytes = of_memory * best_rate(profile.memory.read);
  c.host_copy_bytes = of_memory * best_rate(profile.memory.copy);
  if (on_gpu && profile.gpu) {
    const GpuProfile& gpu = *profile.gpu;
    // The two 16-bit types run at one rate.
    const DType measured = dtype == DType::bfloat16 ? DType::float16 : dtype;
    c.matrix_operations = best_rate(gpu.matrix, measured);
    c.products = product_rates(gpu.matrix, measured, 1);
    c.gpu_memory_bytes = gpu.memory_bytes_per_second;
    c.host_to_gpu_bytes = best_rate(gpu.host_to_gpu);
    c.gpu_to_host_bytes = best_rate(gpu.gpu_to_host);
    c.both_directions_bytes = best_rate(gpu.both_directions);
    // DMA and processors together reach more than either alone.
    for (const SharedMemoryRate& rate : gpu.beside_host_reads)
      c.host_copy_bytes =
          std::max(c.host_copy_bytes, of_memory * (rate.read_bytes_per_second + rate.host_to_gpu_bytes_per_second));
    c.host_copy_bytes = std::max(c.host_copy_bytes, c.host_read_bytes);
    c.link_loss = link_loss(gpu);
  } else if (!on_gpu) {
    c.matrix_operations = share.processors * best_rate(profile.memory.matrix, dtype);
    c.products = product_rates(profile.memory.matrix, dtype, share.processors);
  }
  if (profile.disk) {
    c.disk_read_bytes = share.memory * lasting_read_rate(*profile.disk);
    c.disk_write_bytes = share.memory * lasting_write_rate(*profile.disk);
  }
  if (!transport.empty()) c.network_bytes = link_rate(profile.links, transport);
  return c;
}

void rate_stage(StageInput& stage, const HardwareProfile& profile, const MachineShare& share,
                std::string_view transport) {
  const PlanInput& plan = stage.plan;
  stage.ceilings = ceilings_of(profile, plan.on_gpu, plan.policy.dtype, share, transport);
  stage.rates = stage_rates(profile, plan.policy, plan.on_gpu, share);
}

StageBound bound_stage(const StageInput& stage, const RooflineJob& job) {
  const StageTraffic model(stage);
  if (sweeps_mix(stage.plan, job)) {
    StageBound bound;
    add_mixed_sweeps(model, job, bound);
    return bound;
  }
  const std::int64_t block_rows = stage.plan.policy.block_rows();
  const std::int64_t num_full_blocks = job.num_sequences / block_rows;
  StageBound bound;
  add_blocks(model, job, static_cast<double>(num_full_blocks), static_cast<double>(block_rows), bound);
  if (const std::int64_t rest = job.num_sequences % block_rows; rest > 0)
    add_blocks(model, job, 1, static_cast<double>(rest), bound);
  return bound;
}

SweepNeeds needs_of_sweeps(const StageInput& stage, const RooflineJob& job) {
  return [model = StageTraffic(stage), job](double beginning, double decoding) {
    const BlockRows block = rows_of_block(model, job, decoding);
    std::array kinds{block.prompts, block.decoding};
    kinds[0].rows = beginning;
    return needs_of(model.of(kinds), model.stage());
  };
}

RunBound bound_run(std::span<const StageInput> stages, const RooflineJob& job) {
  FLEXGEN_CHECK(!stages.empty(), "a run has at least one stage");
  RunBound run;
  for (const StageInput& stage : stages) run.stages.push_back(bound_stage(stage, job));
  for (std::size_t s = 1; s < run.stages.size(); ++s)
    if (run.stages[s].seconds() > run.stages[run.slowest].seconds()) run.slowest = s;
  const StageBound& slowest = run.stages[run.slowest];
  run.seconds = slowest.seconds();

  if (stages.size() > 1) {
    // A block's next sweep starts when its tokens are back. Rows are shared out over the groups; blocks of one group
    // queue up behind each other.
    const auto num_groups = static_cast<std::int64_t>(std::max(1, stages.front().plan.policy.num_groups));
    const std::int64_t block_rows = stages.front().plan.policy.block_rows();
    const std::int64_t group_rows = (job.num_sequences + num_groups - 1) / num_groups;
    const std::int64_t num_blocks = std::max<std::int64_t>(1, (group_rows + block_rows - 1) / block_rows);
    RooflineJob one_block = job;
    one_block.num_sequences = group_rows / num_blocks;
    double way = 0;
    for (const StageInput& stage : stages) way += bound_stage(stage, one_block).seconds();
    const double queue = static_cast<double>(num_blocks) * way;
    run.unfilled = queue > run.seconds * 1.01;
    run.seconds = std::max(run.seconds, queue);
  }
  run.phase = slowest.mixed.seconds > 0                           ? SweepPhase::mixed
              : slowest.decode.seconds >= slowest.prefill.seconds ? SweepPhase::decode
                                                                  : SweepPhase::prefill;
  run.binding = slowest.of(run.phase).binding();
  const double made = static_cast<double>(job.num_sequences) * (job.new_tokens + job.scored_tokens);
  if (run.seconds > 0) run.tokens_per_second = made / run.seconds;
  return run;
}

}  // namespace flexgen

#include "policy/roofline.hpp"

#include <algorithm>
#include <cmath>

#include "base/error.hpp"

namespace flexgen {
namespace {

// What one sweep of a stage moves and computes.
struct Traffic {
  double operations = 0;
  double gpu_memory = 0;
  double host_to_gpu = 0;
  double gpu_to_host = 0;
  double host_moved = 0;  // host memory read and written by DMA and copies
  double host_read = 0;   // by processors that compute
  double disk_read = 0;
  double disk_write = 0;
  double network = 0;
};

// Rows of one sweep, all alike.
struct SweepRows {
  double rows = 0;
  double start = 0;  // tokens of a row that are in the cache already
  double count = 0;  // new tokens of a row
  double micro_batches = 0;
  double outputs = 1;  // positions of a row whose logits are computed
  double tokens() const { return rows * count; }
};

struct TierParts {
  double dram = 0;
  double ssd = 0;
};

struct StageModel {
  const StageInput& stage;
  MemoryPlan memory;
  TierParts streamed_weights;  // bytes per sweep
  TierParts cache_share;       // 0 .. 1
  double cached_layers = 0;

  explicit StageModel(const StageInput& input);
  bool on_gpu() const { return stage.plan.on_gpu; }
  double attended_by_host(const SweepRows& sweep) const;
  double element() const { return static_cast<double>(element_bytes(stage.plan.policy.dtype)); }
  /// Of one sweep with rows of either kind.
  Traffic traffic(std::span<const SweepRows> kinds) const;

 private:
  void add_weights(std::span<const SweepRows> kinds, Traffic& t) const;
  void add_cache(const SweepRows& sweep, Traffic& t) const;
  void add_hidden(const SweepRows& sweep, Traffic& t) const;
  void bring(const TierParts& bytes, Traffic& t) const;
  void take_away(const TierParts& bytes, Traffic& t) const;
};

double overlap(std::uint64_t begin, std::uint64_t end, std::uint64_t from, std::uint64_t to) {
  const std::uint64_t first = std::max(begin, from);
  const std::uint64_t last = std::min(end, to);
  return first < last ? static_cast<double>(last - first) : 0.0;
}

TierParts bytes_loaded_per_sweep(const WeightLayout& layout) {
  TierParts parts;
  for (const LayerWeights& layer : layout.layers)
    for (const PackRange& range : layer.loads) {
      const WeightPack& pack = layout.packs[static_cast<std::size_t>(range.pack)];
      const std::uint64_t dram_end = pack.gpu_bytes + pack.dram_bytes;
      parts.dram += overlap(range.begin, range.end, pack.gpu_bytes, dram_end);
      parts.ssd += overlap(range.begin, range.end, dram_end, range.end);
    }
  return parts;
}

StageModel::StageModel(const StageInput& input) : stage(input), memory(plan_memory(input.plan)) {
  streamed_weights = bytes_loaded_per_sweep(memory.weights);
  const CacheSplit& cache = memory.cache.total;
  const auto bytes = static_cast<double>(cache.gpu_bytes + cache.staged_bytes());
  if (bytes > 0)
    cache_share = {static_cast<double>(cache.dram_bytes) / bytes, static_cast<double>(cache.ssd_bytes) / bytes};
  cached_layers = memory.cache.num_layers;
}

// From their home to the device.
void StageModel::bring(const TierParts& bytes, Traffic& t) const {
  const double all = bytes.dram + bytes.ssd;
  t.disk_read += bytes.ssd;
  if (on_gpu()) {
    t.host_to_gpu += all;
    t.gpu_memory += all;
    t.host_moved += bytes.dram + 2 * bytes.ssd;  // ssd: into staging and out again
  } else {
    t.host_moved += 2 * bytes.dram + bytes.ssd;
  }
}

void StageModel::take_away(const TierParts& bytes, Traffic& t) const {
  const double all = bytes.dram + bytes.ssd;
  t.disk_write += bytes.ssd;
  if (on_gpu()) {
    t.gpu_to_host += all;
    t.gpu_memory += all;
    t.host_moved += bytes.dram + 2 * bytes.ssd;
  } else {
    t.host_moved += 2 * bytes.dram + bytes.ssd;
  }
}

void StageModel::add_weights(std::span<const SweepRows> kinds, Traffic& t) const {
  bring(streamed_weights, t);
  double tokens = 0, outputs = 0, micro_batches = 0;
  for (const SweepRows& kind : kinds) {
    tokens += kind.tokens();
    outputs += kind.rows * kind.outputs;
    micro_batches = std::max(micro_batches, kind.micro_batches);
  }
  double read_bytes = 0;
  for (std::size_t j = 0; j < stage.plan.slice.layers.size(); ++j)
    for (std::size_t w = 0; w < stage.plan.slice.layers[j].weights.size(); ++w) {
      const LayerDescription& layer = stage.plan.slice.layers[j];
      const WeightSpec& weight = layer.weights[w];
      const auto elements = static_cast<double>(weight.num_elements());
      const QuantFormat stored = stored_format(weight.role, stage.plan.policy.weight_format);
      const auto bytes = static_cast<double>(stored_bytes(weight, stage.plan.policy.dtype, stored));
      const bool is_matrix = weight.rows > 1;
      if (is_lookup_table(layer, weight)) {  // a row per token
        const double looked_up = tokens * bytes / static_cast<double>(weight.rows);
        const WeightPlace& place = memory.weights.layers[j].places[w];
        double from_dram = 0;  // the part of its rows that cross the link one by one
        if (on_gpu() && place.looked_up)
          from_dram = 1 - static_cast<double>(place.gpu_rows) / static_cast<double>(weight.rows);
        read_bytes += (1 - from_dram) * looked_up;
        bring({from_dram * looked_up, 0}, t);
        continue;
      }
      read_bytes += micro_batches * bytes;
      if (is_matrix) t.operations += 2 * elements * (layer.kind == LayerKind::head ? outputs : tokens);
    }
  (on_gpu() ? t.gpu_memory : t.host_read) += read_bytes;
}

// The share of a sweep's cache that attention on the host reads where it lies.
double StageModel::attended_by_host(const SweepRows& sweep) const {
  if (sweep.count != 1 || sweep.start == 0) return 0;
  return cache_share.dram * stage.plan.policy.host_attention_percent / 100;
}

void StageModel::add_cache(const SweepRows& sweep, Traffic& t) const {
  const double hidden = stage.plan.model.hidden;
  const CacheShape& shape = memory.cache.shape;  // key and value, all layers:
  const double position_bytes = static_cast<double>(shape.position_bytes()) * shape.heads * cached_layers;
  const double loaded = sweep.rows * sweep.start * position_bytes;
  const double stored = sweep.rows * sweep.count * position_bytes;
  const double by_host = attended_by_host(sweep);
  const double dram = cache_share.dram - by_host;
  bring({loaded * dram, loaded * cache_share.ssd}, t);
  take_away({stored * dram, stored * cache_share.ssd}, t);
  const double read = loaded + 2 * stored;  // attention reads all, the new ones are written first
  (on_gpu() ? t.gpu_memory : t.host_read) += (1 - by_host) * read;
  t.host_read += by_host * read;
  const double pairs = sweep.rows * sweep.count * (sweep.start + (sweep.count + 1) / 2);  // query and key, causal
  t.operations += (1 - by_host) * 4 * hidden * cached_layers * pairs;
}

void StageModel::add_hidden(const SweepRows& sweep, Traffic& t) const {
  const double bytes = sweep.tokens() * stage.plan.model.hidden * element();
  const Share& share = stage.plan.policy.placement.hidden;
  const double between = static_cast<double>(stage.plan.slice.layers.size()) - 1;
  const double dram = std::max(0.0, share.dram());
  const double ssd = std::max(0.0, share.ssd());
  if (sweep.count > 1) {  // those of single tokens stay on the device
    bring({between * bytes * dram, between * bytes * ssd}, t);
    take_away({between * bytes * dram, between * bytes * ssd}, t);
  }
  if (stage.plan.links.receives || stage.plan.links.sends) t.network += bytes;  // both at once where there are both
  if (stage.plan.links.through_host && stage.plan.links.receives) bring({bytes, 0}, t);
  if (stage.plan.links.through_host && stage.plan.links.sends) take_away({bytes, 0}, t);
}

Traffic StageModel::traffic(std::span<const SweepRows> kinds) const {
  Traffic t;
  add_weights(kinds, t);
  for (const SweepRows& kind : kinds) {
    add_cache(kind, t);
    add_hidden(kind, t);
  }
  return t;
}

double over(double amount, double rate) { return rate > 0 ? amount / rate : 0.0; }

Needs needs_of(const Traffic& t, const Ceilings& c) {
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

void add_sweeps(const StageModel& model, std::span<const SweepRows> kinds, double num_sweeps, PhaseBound& phase) {
  if (num_sweeps <= 0) return;
  const Needs needs = needs_of(model.traffic(kinds), model.stage.ceilings);
  for (std::size_t i = 0; i < num_ceilings; ++i) {
    phase.needs[i].seconds += num_sweeps * needs[i].seconds;
    phase.needs[i].amount += num_sweeps * needs[i].amount;
  }
  phase.seconds += num_sweeps * sweep_seconds(needs, model.stage.plan.policy.overlap);
}

// Rows of a block by what they bring, all alike.
struct BlockRows {
  SweepRows prompts;
  SweepRows decoding;
  double num_steps;  // of decode: prefill makes the first token
};

BlockRows rows_of_block(const StageModel& model, const RooflineJob& job, double rows) {
  const double micro_batches = std::ceil(rows / model.stage.plan.policy.micro_batch_size);
  const double steps = std::max(0.0, job.new_tokens - 1);
  const double position =
      job.decode_position > 0 ? job.decode_position : job.prompt_tokens + std::max(0.0, steps - 1) / 2;
  return {{rows, 0, job.prompt_tokens, micro_batches, job.scored_tokens > 0 ? job.prompt_tokens : 1},
          {rows, position, 1, micro_batches},
          steps};
}

// All sweeps of `num_blocks` blocks of `rows` rows.
void add_blocks(const StageModel& model, const RooflineJob& job, double num_blocks, double rows, StageBound& bound) {
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
void add_mixed_sweeps(const StageModel& model, const RooflineJob& job, StageBound& bound) {
  const auto rows = static_cast<double>(std::min(job.num_sequences, model.stage.plan.policy.block_rows()));
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

Ceilings ceilings_of(const HardwareProfile& profile, bool on_gpu, DType dtype, int ranks_on_machine,
                     std::string_view transport) {
  const double share = 1.0 / std::max(1, ranks_on_machine);
  Ceilings c;
  c.host_read_bytes = share * best_rate(profile.memory.read);
  c.host_copy_bytes = share * best_rate(profile.memory.copy);
  if (on_gpu && profile.gpu) {
    const GpuProfile& gpu = *profile.gpu;
    // The two 16-bit types run at one rate.
    c.matrix_operations = best_rate(gpu.matrix, dtype == DType::bfloat16 ? DType::float16 : dtype);
    c.gpu_memory_bytes = gpu.memory_bytes_per_second;
    c.host_to_gpu_bytes = best_rate(gpu.host_to_gpu);
    c.gpu_to_host_bytes = best_rate(gpu.gpu_to_host);
    c.both_directions_bytes = best_rate(gpu.both_directions);
    // DMA and processors together reach more than either alone.
    for (const SharedMemoryRate& rate : gpu.beside_host_reads)
      c.host_copy_bytes =
          std::max(c.host_copy_bytes, share * (rate.read_bytes_per_second + rate.host_to_gpu_bytes_per_second));
    c.host_copy_bytes = std::max(c.host_copy_bytes, c.host_read_bytes);
  } else if (!on_gpu) {
    c.matrix_operations = share * best_rate(profile.memory.matrix, dtype);
  }
  if (profile.disk) {
    c.disk_read_bytes = share * lasting_read_rate(*profile.disk);
    c.disk_write_bytes = share * lasting_write_rate(*profile.disk);
  }
  if (!transport.empty()) c.network_bytes = link_rate(profile.links, transport);
  return c;
}

StageBound bound_stage(const StageInput& stage, const RooflineJob& job) {
  const StageModel model(stage);
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
  return [model = StageModel(stage), job](double beginning, double decoding) {
    const BlockRows block = rows_of_block(model, job, decoding);
    std::array kinds{block.prompts, block.decoding};
    kinds[0].rows = beginning;
    return needs_of(model.traffic(kinds), model.stage.ceilings);
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

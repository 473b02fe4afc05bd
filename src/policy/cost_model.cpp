#include "policy/cost_model.hpp"

#include <algorithm>
#include <array>
#include <cmath>

#include "base/error.hpp"
#include "policy/row_flow.hpp"

namespace flexgen {
namespace {

// Kernels, or loops over threads, of one call of a decoder layer: norms, products, append, attention, sums.
constexpr double kernels_of_layer = 10;
// From the end of one to the beginning of the next, where the next is waiting already. Of GPUs measured on an H200:
// a decode step of OPT-6.7B is some 320 kernels, and takes a millisecond more than its bytes; of hosts a wake-up of the
// threads.
constexpr double seconds_between_kernels = 2e-6;
constexpr double seconds_between_loops = 5e-6;
// A layer's queries go to the host and what it attended comes back, per layer; and the device waits for the host's
// first micro-batch, while it has no other to compute.
constexpr double seconds_of_host_turn = 40e-6;
// Bytes that pass through memory between a layer's products, in hidden states and in widths of the mlp, of a token:
// what norms, sums and activations read and write.
constexpr double hidden_passes = 10;
constexpr double width_passes = 2;

double at(const Needs& needs, Ceiling ceiling) { return needs[static_cast<std::size_t>(ceiling)].seconds; }

// Of products of fewer tokens, arithmetic takes as long as of these: processors multiply tiles.
constexpr double tokens_of_tile = 64;

// Time grows linearly with tokens between measured points: weights pass once, arithmetic is each token's. Beyond them
// the rates of the first and the last hold, down to a tile; what reading the weights takes is counted beside it.
double product_rate(const Ceilings& ceilings, double tokens) {
  const std::vector<TokenRate>& rates = ceilings.products;
  if (rates.empty()) return ceilings.matrix_operations;
  const double least = std::min(rates.front().tokens, tokens_of_tile);
  if (tokens <= least) return rates.front().operations * std::max(1.0, tokens) / least;
  if (tokens <= rates.front().tokens) return rates.front().operations;
  const auto time_of = [](const TokenRate& rate) { return rate.tokens / rate.operations; };
  for (std::size_t i = 1; i < rates.size(); ++i) {
    const TokenRate &below = rates[i - 1], &above = rates[i];
    if (tokens > above.tokens) continue;
    const double way = (tokens - below.tokens) / (above.tokens - below.tokens);
    return tokens / (time_of(below) + way * (time_of(above) - time_of(below)));
  }
  return rates.back().operations;
}

std::array<SweepRows, 2> rows_of(const FlowSweep& sweep, const PlanInput& plan, const RooflineJob& job) {
  const double prompt = sweep.beginning > 0 ? sweep.prompt_tokens / sweep.beginning : 0;
  const double rows = sweep.decoding + sweep.beginning;
  const double micro_batches =
      std::min<double>(plan.policy.num_micro_batches, std::ceil(rows / plan.policy.micro_batch_size - 1e-9));
  const double shared = plan.job.mean_shared_tokens(plan.policy.num_prefixes);
  return {{{sweep.beginning, shared, prompt, micro_batches, job.scored_tokens > 0 ? prompt : 1, shared},
           {sweep.decoding, sweep.decode_position, 1, micro_batches, 1, shared}}};
}

}  // namespace

const std::vector<std::vector<Ceiling>>& serial_groups(const StageInput& stage) {
  static const std::vector<std::vector<Ceiling>> of_gpu{{Ceiling::matrix, Ceiling::gpu_memory},
                                                        {Ceiling::host_to_gpu},
                                                        {Ceiling::gpu_to_host},
                                                        {Ceiling::both_directions},
                                                        {Ceiling::host_memory},
                                                        {Ceiling::disk},
                                                        {Ceiling::network}};
  static const std::vector<std::vector<Ceiling>> of_host{
      {Ceiling::matrix, Ceiling::host_memory}, {Ceiling::disk}, {Ceiling::network}};
  static const std::vector<std::vector<Ceiling>> of_gpu_in_turn{
      {Ceiling::matrix, Ceiling::gpu_memory, Ceiling::host_to_gpu, Ceiling::gpu_to_host, Ceiling::disk,
       Ceiling::network},
      {Ceiling::host_memory}};
  static const std::vector<std::vector<Ceiling>> of_host_in_turn{
      {Ceiling::matrix, Ceiling::host_memory, Ceiling::disk, Ceiling::network}};
  if (stage.plan.policy.overlap) return stage.plan.on_gpu ? of_gpu : of_host;
  return stage.plan.on_gpu ? of_gpu_in_turn : of_host_in_turn;
}

double sweep_seconds(const Needs& needs, const StageInput& stage) {
  double longest = 0;
  for (const std::vector<Ceiling>& group : serial_groups(stage)) {
    double sum = 0;
    for (const Ceiling ceiling : group) sum += at(needs, ceiling);
    longest = std::max(longest, sum);
  }
  return longest;
}

SweepCost::SweepCost(const StageInput& stage) : traffic_(stage) {
  const PlanInput& plan = stage.plan;
  num_layers_ = traffic_.memory().cache.num_layers;
  if (stage.rates) count_matrices();
  if (plan.policy.weight_format.is_none()) return;
  for (const LayerDescription& layer : plan.slice.layers)
    plain_bytes_ += static_cast<double>(plain_layer_bytes(layer, plan.policy.dtype));
  has_plain_layer_ = plain_layer_piece(plan, traffic_.memory(), stage.budgets).has_value();
}

void SweepCost::count_matrices() {
  const PlanInput& plan = traffic_.stage().plan;
  for (const LayerDescription& layer : plan.slice.layers)
    for (const WeightSpec& weight : layer.weights) {
      if (weight.rows <= 1 || is_lookup_table(layer, weight)) continue;
      const Matrices one{static_cast<double>(weight.rows), static_cast<double>(weight.cols),
                         stored_format(weight.role, plan.policy.weight_format), layer.kind == LayerKind::head, 1};
      const auto is_alike = [&](const Matrices& other) {
        return other.outputs == one.outputs && other.inputs == one.inputs && other.stored == one.stored &&
               other.is_of_head == one.is_of_head;
      };
      const auto known = std::ranges::find_if(matrices_, is_alike);
      if (known == matrices_.end()) matrices_.push_back(one);
      else known->count += 1;
    }
}

SweepCost::Calls SweepCost::calls_of(std::span<const SweepRows> kinds) {
  Calls calls;
  for (const SweepRows& kind : kinds) {
    calls.tokens += kind.tokens();
    calls.outputs += kind.rows * kind.outputs;
    calls.micro_batches = std::max(calls.micro_batches, kind.micro_batches);
  }
  return calls;
}

// A GPU multiplies few tokens by codes and many by plain matrices, which it makes once a sweep where it keeps a layer
// of them, else for every call.
double SweepCost::made_plain_bytes(const Calls& calls) const {
  if (plain_bytes_ == 0 || !traffic_.stage().plan.on_gpu) return 0;
  if (calls.tokens / std::max(1.0, calls.micro_batches) < static_cast<double>(plain_layer_tokens)) return 0;
  return plain_bytes_ * (has_plain_layer_ ? 1 : calls.micro_batches);
}

double SweepCost::seconds_by_ceilings(const Traffic& traffic, const Calls& calls) const {
  const StageInput& stage = traffic_.stage();
  const double of_call = calls.tokens / std::max(1.0, calls.micro_batches);
  const double arithmetic = over(traffic.operations, product_rate(stage.ceilings, of_call));
  const double memory = stage.plan.on_gpu ? stage.ceilings.gpu_memory_bytes : stage.ceilings.host_read_bytes;
  return std::max(arithmetic, over(traffic.weight_reads, memory));
}

// Rates hold what reading the weights takes.
double SweepCost::seconds_by_rates(const Calls& calls) const {
  double seconds = 0;
  for (const Matrices& one : matrices_) {
    const double tokens = (one.is_of_head ? calls.outputs : calls.tokens) / std::max(1.0, calls.micro_batches);
    if (tokens <= 0) continue;
    const double operations = 2 * tokens * one.outputs * one.inputs * one.count * calls.micro_batches;
    const double size = std::sqrt(one.outputs * one.inputs);
    seconds += over(operations, traffic_.stage().rates->device.products(one.stored).at(tokens, size));
  }
  return seconds;
}

double SweepCost::product_seconds(const Traffic& traffic, const Calls& calls) const {
  const StageInput& stage = traffic_.stage();
  const bool by_rates = stage.rates && !stage.rates->device.plain_products.empty();
  const double products = by_rates ? seconds_by_rates(calls) : seconds_by_ceilings(traffic, calls);
  const double between = stage.plan.on_gpu ? seconds_between_kernels : seconds_between_loops;
  double waiting = 0;
  if (stage.plan.on_gpu && stage.plan.policy.uses_host_attention() && traffic.host_read > 0)
    waiting = over(traffic.host_read, stage.ceilings.host_read_bytes) / std::max(1.0, calls.micro_batches) +
              num_layers_ * seconds_of_host_turn;
  return products + num_layers_ * calls.micro_batches * kernels_of_layer * between + waiting;
}

// Of processors, at measured rates: what is written to the cache, and what is read of it.
double SweepCost::attention_seconds(const SweepRows& rows) const {
  const OpCosts& costs = traffic_.stage().rates->host;
  const Traffic traffic = traffic_.of_cache(rows);
  const CacheShape& shape = traffic_.memory().cache.shape;
  const double elements = rows.tokens() * 2 * shape.heads * static_cast<double>(shape.head_dim) * num_layers_;
  const double writing = over(elements, costs.cache_writes.at(rows.count));
  if (rows.count > 1 || rows.start == 0)
    return writing + over(traffic.attention_operations, costs.prompts.at(rows.start + rows.count));
  return writing + over(traffic.cache_read + traffic.cache_by_host, costs.cache_reads.at(rows.start + 1));
}

// Without a GPU attention is the processors' own.
double SweepCost::host_memory_seconds(const Traffic& traffic, const Calls& calls,
                                      std::span<const SweepRows> kinds) const {
  const StageInput& stage = traffic_.stage();
  const Ceilings& c = stage.ceilings;
  const double moved = over(traffic.host_moved, c.host_copy_bytes);
  if (!stage.rates || stage.rates->host.cache_reads.empty()) return moved + over(traffic.host_read, c.host_read_bytes);
  if (!stage.plan.on_gpu) {
    double attention = 0;
    for (const SweepRows& kind : kinds) attention += attention_seconds(kind);
    const double hidden = stage.plan.model.hidden;
    const double norms = over(2 * num_layers_ * calls.tokens * hidden,
                              stage.rates->host.norms.at(calls.tokens / std::max(1.0, calls.micro_batches), hidden));
    const double others = traffic.host_read - traffic.cache_read - traffic.cache_by_host;
    return moved + over(others, c.host_read_bytes) + attention + norms;
  }
  double by_host = 0;
  for (const SweepRows& kind : kinds)
    by_host += over(traffic_.of_cache(kind).cache_by_host, stage.rates->host.cache_reads.at(kind.start + 1));
  return moved + std::max(by_host, over(traffic.host_read, c.host_read_bytes));
}

Needs SweepCost::needs(std::span<const SweepRows> kinds) const {
  const StageInput& stage = traffic_.stage();
  const Ceilings& c = stage.ceilings;
  Traffic t = traffic_.of(kinds);
  const Calls calls = calls_of(kinds);
  const PlanInput& plan = stage.plan;
  const double element = static_cast<double>(element_bytes(plan.policy.dtype));
  const double activations =
      calls.tokens * num_layers_ * element * (hidden_passes * plan.model.hidden + width_passes * plan.model.mlp.width);
  (plan.on_gpu ? t.gpu_memory : t.host_moved) += activations + 2 * made_plain_bytes(calls);

  Needs needs{};
  const auto set = [&](Ceiling ceiling, double amount, double seconds) {
    needs[static_cast<std::size_t>(ceiling)] = {seconds, amount};
  };
  set(Ceiling::matrix, t.operations, product_seconds(t, calls));
  set(Ceiling::gpu_memory, t.gpu_memory, over(t.gpu_memory, c.gpu_memory_bytes));
  // Processors that read beside it slow the link down.
  set(Ceiling::host_to_gpu, t.host_to_gpu,
      over(t.host_to_gpu + (t.host_to_gpu > 0 ? c.link_loss * t.host_read : 0), c.host_to_gpu_bytes));
  set(Ceiling::gpu_to_host, t.gpu_to_host, over(t.gpu_to_host, c.gpu_to_host_bytes));
  const double both = t.host_to_gpu + t.gpu_to_host;
  set(Ceiling::both_directions, both, over(both, c.both_directions_bytes));
  set(Ceiling::host_memory, t.host_moved + t.host_read, host_memory_seconds(t, calls, kinds));
  set(Ceiling::disk, t.disk_read + t.disk_write,
      over(t.disk_read, c.disk_read_bytes) + over(t.disk_write, c.disk_write_bytes));
  set(Ceiling::network, t.network, over(t.network, c.network_bytes));
  return needs;
}

Prediction predict_run(std::span<const StageInput> stages, const RooflineJob& job) {
  FLEXGEN_CHECK(!stages.empty(), "a run has at least one stage");
  std::vector<SweepCost> costs;
  for (const StageInput& stage : stages) costs.emplace_back(stage);
  const PlanInput& plan = stages.front().plan;
  const double groups = std::max(1, plan.policy.num_groups);
  std::vector<Needs> sums(stages.size(), Needs{});
  std::vector<double> busy(stages.size(), 0);
  Prediction prediction;
  double full_seconds = 0, first_way = 0;
  follow_rows(plan.policy, plan.job, [&](const FlowSweep& sweep) {
    const std::array kinds = rows_of(sweep, plan, job);
    double longest = 0, way = 0;
    for (std::size_t s = 0; s < stages.size(); ++s) {
      const Needs needs = costs[s].needs(kinds);
      const double seconds = sweep_seconds(needs, stages[s]);
      for (std::size_t c = 0; c < num_ceilings; ++c) {
        sums[s][c].seconds += groups * sweep.count * needs[c].seconds;
        sums[s][c].amount += groups * sweep.count * needs[c].amount;
      }
      busy[s] += groups * sweep.count * seconds;
      longest = std::max(longest, seconds);
      way += seconds + (s + 1 < stages.size() ? at(needs, Ceiling::network) : 0);
    }
    // A group's next sweep begins when its tokens are back; meanwhile the stages have the other groups.
    const double seconds = sweep.count * std::max(groups * longest, way);
    if (prediction.num_sweeps == 0) first_way = way - longest;
    prediction.seconds += seconds;
    prediction.num_sweeps += sweep.count;
    if (sweep.decoding > 0.95 * static_cast<double>(plan.policy.block_rows())) full_seconds += seconds;
  });
  prediction.seconds += first_way;
  prediction.slowest = static_cast<std::size_t>(std::ranges::max_element(busy) - busy.begin());
  const Needs& slowest = sums[prediction.slowest];
  prediction.binding = static_cast<Ceiling>(std::ranges::max_element(slowest, {}, &Need::seconds) - slowest.begin());
  const double made = static_cast<double>(job.num_sequences) * (job.new_tokens + job.scored_tokens);
  if (prediction.seconds > 0) {
    prediction.tokens_per_second = made / prediction.seconds;
    prediction.full_share = full_seconds / prediction.seconds;
  }
  return prediction;
}

std::array<Needs, 3> phase_needs(const SweepCost& cost, const RooflineJob& job) {
  std::array<Needs, 3> phases{};
  const auto add = [&](SweepPhase phase, double count, std::span<const SweepRows> kinds) {
    const Needs needs = cost.needs(kinds);
    for (std::size_t c = 0; c < num_ceilings; ++c) {
      phases[static_cast<std::size_t>(phase)][c].seconds += count * needs[c].seconds;
      phases[static_cast<std::size_t>(phase)][c].amount += count * needs[c].amount;
    }
  };
  const Policy& policy = cost.stage().plan.policy;
  const double all = static_cast<double>(job.num_sequences);
  const double rows = std::min(all / std::max(1, policy.num_groups), static_cast<double>(policy.block_rows()));
  if (rows <= 0) return phases;
  const double micro_batches = std::ceil(rows / policy.micro_batch_size);
  const double steps = std::max(0.0, job.new_tokens - 1);
  const double position =
      job.decode_position > 0 ? job.decode_position : job.prompt_tokens + std::max(0.0, steps - 1) / 2;
  const JobShape& shape = cost.stage().plan.job;
  const double shared = std::min(shape.mean_shared_tokens(policy.num_prefixes), job.prompt_tokens);
  SweepRows prompts{
      rows, shared, job.prompt_tokens - shared, micro_batches, job.scored_tokens > 0 ? job.prompt_tokens : 1, shared};
  SweepRows decoding{rows, position, 1, micro_batches, 1, shared};
  if (policy.rule == BlockRule::rolling && job.new_tokens >= 2 && all > rows * std::max(1, policy.num_groups)) {
    prompts.rows = rows / job.new_tokens;
    decoding.rows = rows - prompts.rows;
    const std::array kinds{prompts, decoding};
    add(SweepPhase::mixed, all * job.new_tokens / rows, kinds);
    return phases;
  }
  add(SweepPhase::prefill, all / rows, {&prompts, 1});
  add(SweepPhase::decode, all / rows * steps, {&decoding, 1});
  return phases;
}

double phase_seconds(const SweepCost& cost, const RooflineJob& job) {
  double sum = 0;
  for (const Needs& needs : phase_needs(cost, job)) sum += sweep_seconds(needs, cost.stage());
  return sum;
}

}  // namespace flexgen

#include "policy/stage_traffic.hpp"

#include <algorithm>

namespace flexgen {
namespace {

struct LoadedBytes {
  double dram = 0;
  double ssd = 0;
};

double overlap(std::uint64_t begin, std::uint64_t end, std::uint64_t from, std::uint64_t to) {
  const std::uint64_t first = std::max(begin, from);
  const std::uint64_t last = std::min(end, to);
  return first < last ? static_cast<double>(last - first) : 0.0;
}

LoadedBytes bytes_loaded_per_sweep(const WeightLayout& layout) {
  LoadedBytes parts;
  for (const LayerWeights& layer : layout.layers)
    for (const PackRange& range : layer.loads) {
      const WeightPack& pack = layout.packs[static_cast<std::size_t>(range.pack)];
      const std::uint64_t dram_end = pack.gpu_bytes + pack.dram_bytes;
      parts.dram += overlap(range.begin, range.end, pack.gpu_bytes, dram_end);
      parts.ssd += overlap(range.begin, range.end, dram_end, range.end);
    }
  return parts;
}

}  // namespace

StageTraffic::StageTraffic(const StageInput& input) : stage_(&input), memory_(plan_memory(input.plan)) {
  const auto [dram, ssd] = bytes_loaded_per_sweep(memory_.weights);
  streamed_weights_ = {dram, ssd};
  const CacheSplit& cache = memory_.cache.total;
  const auto bytes = static_cast<double>(cache.gpu_bytes + cache.staged_bytes());
  if (bytes > 0)
    cache_share_ = {static_cast<double>(cache.dram_bytes) / bytes, static_cast<double>(cache.ssd_bytes) / bytes};
  cached_layers_ = memory_.cache.num_layers;
  weights_ = sum_up_weights();
}

// From their home to the device.
void StageTraffic::bring(const TierParts& bytes, Traffic& t) const {
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

void StageTraffic::take_away(const TierParts& bytes, Traffic& t) const {
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

double StageTraffic::element() const { return static_cast<double>(element_bytes(stage_->plan.policy.dtype)); }

StageTraffic::WeightSums StageTraffic::sum_up_weights() const {
  WeightSums sums;
  const Policy& policy = stage_->plan.policy;
  for (std::size_t j = 0; j < stage_->plan.slice.layers.size(); ++j) {
    const LayerDescription& layer = stage_->plan.slice.layers[j];
    for (std::size_t w = 0; w < layer.weights.size(); ++w) {
      const WeightSpec& weight = layer.weights[w];
      const auto elements = static_cast<double>(weight.num_elements());
      const QuantFormat stored = stored_format(weight.role, policy.weight_format);
      const auto bytes = static_cast<double>(stored_bytes(weight, policy.dtype, stored));
      if (is_lookup_table(layer, weight)) {  // a row per token
        const WeightPlace& place = memory_.weights.layers[j].places[w];
        double from_dram = 0;  // the part of its rows that cross the link one by one
        if (on_gpu() && place.looked_up)
          from_dram = 1 - static_cast<double>(place.gpu_rows) / static_cast<double>(weight.rows);
        const double row = bytes / static_cast<double>(weight.rows);
        sums.looked_up += (1 - from_dram) * row;
        sums.looked_up_from_dram += from_dram * row;
        continue;
      }
      sums.reads += bytes;
      if (weight.rows > 1) (layer.kind == LayerKind::head ? sums.head_operations : sums.operations) += 2 * elements;
    }
  }
  return sums;
}

void StageTraffic::add_weights(std::span<const SweepRows> kinds, Traffic& t) const {
  bring(streamed_weights_, t);
  double tokens = 0, outputs = 0, micro_batches = 0;
  for (const SweepRows& kind : kinds) {
    tokens += kind.tokens();
    outputs += kind.rows * kind.outputs;
    micro_batches = std::max(micro_batches, kind.micro_batches);
  }
  t.operations += weights_.operations * tokens + weights_.head_operations * outputs;
  t.weight_reads += weights_.reads * micro_batches;
  (on_gpu() ? t.gpu_memory : t.host_read) += weights_.looked_up * tokens;
  bring({weights_.looked_up_from_dram * tokens, 0}, t);
}

// The share of a sweep's cache that attention on the host reads where it lies.
double StageTraffic::attended_by_host(const SweepRows& sweep) const {
  if (sweep.count != 1 || sweep.start == 0) return 0;
  return cache_share_.dram * stage_->plan.policy.host_attention_percent / 100;
}

void StageTraffic::add_cache(const SweepRows& sweep, Traffic& t) const {
  const double hidden = stage_->plan.model.hidden;
  const CacheShape& shape = memory_.cache.shape;  // key and value, all layers:
  const double position_bytes = static_cast<double>(shape.position_bytes()) * shape.heads * cached_layers_;
  const double positions = sweep.rows * (sweep.start - sweep.shared) + sweep.micro_batches * sweep.shared;
  const double loaded = positions * position_bytes;
  const double stored = sweep.rows * sweep.count * position_bytes;
  const double by_host = attended_by_host(sweep);
  const double dram = cache_share_.dram - by_host;
  bring({loaded * dram, loaded * cache_share_.ssd}, t);
  take_away({stored * dram, stored * cache_share_.ssd}, t);
  const double read = loaded + 2 * stored;  // attention reads all, the new ones are written first
  (on_gpu() ? t.gpu_memory : t.host_read) += (1 - by_host) * read;
  t.cache_read += (1 - by_host) * read;
  t.host_read += by_host * read;
  t.cache_by_host += by_host * read;
  const double pairs = sweep.rows * sweep.count * (sweep.start + (sweep.count + 1) / 2);  // query and key, causal
  const double operations = (on_gpu() ? 1 - by_host : 1) * 4 * hidden * cached_layers_ * pairs;
  t.operations += operations;
  t.attention_operations += operations;
}

void StageTraffic::add_hidden(const SweepRows& sweep, Traffic& t) const {
  const double bytes = sweep.tokens() * stage_->plan.model.hidden * element();
  const Share& share = stage_->plan.policy.placement.hidden;
  const double between = static_cast<double>(stage_->plan.slice.layers.size()) - 1;
  const double dram = std::max(0.0, share.dram());
  const double ssd = std::max(0.0, share.ssd());
  if (sweep.count > 1) {  // those of single tokens stay on the device
    bring({between * bytes * dram, between * bytes * ssd}, t);
    take_away({between * bytes * dram, between * bytes * ssd}, t);
  }
  if (stage_->plan.links.receives || stage_->plan.links.sends) t.network += bytes;  // both at once where there are both
  if (stage_->plan.links.through_host && stage_->plan.links.receives) bring({bytes, 0}, t);
  if (stage_->plan.links.through_host && stage_->plan.links.sends) take_away({bytes, 0}, t);
}

Traffic StageTraffic::of_cache(const SweepRows& rows) const {
  Traffic t;
  add_cache(rows, t);
  return t;
}

Traffic StageTraffic::of(std::span<const SweepRows> kinds) const {
  Traffic t;
  add_weights(kinds, t);
  for (const SweepRows& kind : kinds) {
    add_cache(kind, t);
    add_hidden(kind, t);
  }
  return t;
}

}  // namespace flexgen

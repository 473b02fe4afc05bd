#include "policy/cache_layout.hpp"

#include <algorithm>

#include "policy/spread.hpp"

namespace flexgen {

CacheLayout plan_cache(const CacheShape& shape, std::int32_t num_layers, std::int32_t num_slots, const Share& share,
                       std::int32_t grain) {
  CacheLayout layout;
  layout.shape = shape;
  layout.num_layers = num_layers;
  layout.num_slots = num_slots;
  Spread gpu(share.gpu());
  Spread dram(share.dram());
  const auto units = static_cast<std::uint64_t>(shape.units());
  for (std::int32_t i = 0; i < num_layers * num_slots; ++i) {
    CacheSplit split;
    split.gpu_units = static_cast<std::int64_t>(gpu.take(units, static_cast<std::uint64_t>(grain), units));
    const std::uint64_t rest = units - static_cast<std::uint64_t>(split.gpu_units);
    split.dram_units = static_cast<std::int64_t>(dram.take(units, static_cast<std::uint64_t>(grain), rest));
    if (share.ssd() < 1e-9) {  // rounding must not put a unit on a tier that was not asked for
      if (share.dram() < 1e-9) split.gpu_units = shape.units();
      split.dram_units = shape.units() - split.gpu_units;
    }
    split.ssd_units = shape.units() - split.gpu_units - split.dram_units;
    layout.gpu_units += split.gpu_units;
    layout.dram_units += split.dram_units;
    layout.ssd_units += split.ssd_units;
    layout.staged_units = std::max(layout.staged_units, split.dram_units + split.ssd_units);
    layout.splits.push_back(split);
  }
  return layout;
}

}  // namespace flexgen

#include "engine/cache_tables.hpp"

#include <cstring>

#include "engine/upload.hpp"

namespace flexgen {

CacheTables::CacheTables(const StagePlan& plan, StageMemory& memory, const Device& device)
    : plan_(plan),
      cache_(memory.cache),
      entries_(cache_table_entries(plan.memory.cache.shape)),
      host_(memory.tiers.host_side(Piece::cache_tables)),
      used_(plan.memory.cache.splits.size()) {
  if (device.is_cuda()) device_ = reinterpret_cast<KvHead*>(memory.tiers.on_device(Piece::cache_tables).data);
}

KvView CacheTables::view(std::int32_t layer, std::int32_t slot, const TableRows& of, std::byte* stage,
                         Stream& compute) {
  const std::int32_t heads = plan_.input.model.attention.kv_heads;
  const std::size_t table = static_cast<std::size_t>(layer) * static_cast<std::size_t>(plan_.memory.cache.num_slots) +
                            static_cast<std::size_t>(slot);
  const std::size_t num_own = of.rows.size() * static_cast<std::size_t>(heads);
  std::vector<KvHead> fresh(num_own + of.runs.size() * static_cast<std::size_t>(heads));
  cache_.fill_table(layer, slot, of.rows, stage, std::span(fresh).first(num_own));
  cache_.fill_table(layer, slot, of.runs, stage, std::span(fresh).subspan(num_own));
  KvHead* host = reinterpret_cast<KvHead*>(host_.data()) + table * entries_;
  const std::size_t bytes = fresh.size() * sizeof(KvHead);
  if (bytes > 0 && (used_[table] != fresh.size() || std::memcmp(host, fresh.data(), bytes) != 0)) {
    std::memcpy(host, fresh.data(), bytes);
    if (device_)
      upload(compute, host_.buffer(), table * entries_ * sizeof(KvHead),
             reinterpret_cast<std::byte*>(device_ + table * entries_), bytes, "cache table");
  }
  used_[table] = fresh.size();
  KvView view{device_ ? device_ + table * entries_ : host, host, heads, plan_.input.model.attention.head_size,
              plan_.input.policy.cache_format};
  view.shared.host_heads = host + num_own;
  view.shared.heads = view.heads + num_own;
  return view;
}

}  // namespace flexgen

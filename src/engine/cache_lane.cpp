#include "engine/cache_lane.hpp"

#include <algorithm>
#include <utility>

namespace flexgen {
namespace {

std::vector<std::int32_t> index_of_layers(const std::vector<LayerDescription>& layers) {
  std::vector<std::int32_t> index;
  index.reserve(layers.size());
  std::int32_t cached = 0;
  for (const LayerDescription& layer : layers) index.push_back(layer.has_cache() ? cached++ : -1);
  return index;
}

// Whether the next sweep brings more of the row's prompt.
bool goes_on_reading(const RowWork& row) {
  return row.reads_prompt && !row.wants_token && (!row.wants_scores || row.next_token >= 0);
}

CacheRow row_of_next_sweep(const RowWork& row) {
  CacheRow next = cache_row_of(row);
  next.start += next.count;
  next.count = row.wants_token ? 1 : 2;
  return next;
}

// A run may be a row itself, which is being read further, and then is loaded as that.
std::vector<CacheRow> joined(std::span<const CacheRow> rows, std::span<const CacheRow> runs) {
  std::vector<CacheRow> all(rows.begin(), rows.end());
  for (const CacheRow& run : runs)
    if (std::ranges::find(rows, run.begin, &CacheRow::begin) == rows.end()) all.push_back(run);
  return all;
}

}  // namespace

// Rows as the next sweep will find them, in its order: those that go on reading their prompts, then those that decode.
// Rows that were only scored end here.
CacheLane::RowsToCome::RowsToCome(const MicroBatchWork& batch) : slot(batch.slot) {
  std::vector<const RowWork*> next;
  for (const RowWork& row : batch.rows)
    if (goes_on_reading(row)) next.push_back(&row);
  const auto num_reading = std::ssize(next);
  for (const RowWork& row : batch.rows)
    if (row.wants_token) next.push_back(&row);
  std::sort(next.begin() + num_reading, next.end(),
            [](const RowWork* row, const RowWork* other) { return lies_before(*row, *other); });
  for (const RowWork* row : next) rows.push_back(row_of_next_sweep(*row));
  shared = shared_runs(next);
}

CacheLane::CacheLane(const StagePlan& plan, StageMemory& memory, const LayerCalls& calls, const Surroundings& around)
    : store_(memory.cache),
      calls_(calls),
      index_(index_of_layers(plan.input.slice.layers.all())),
      slots_(memory.cache_slots),
      stored_(plan.memory.cache.splits.size()),
      tables_(plan, memory, around.device),
      rows_to_come_(static_cast<std::size_t>(plan.input.policy.num_groups)),
      loads_("cache loads", side_mode(plan.input.policy), around, memory.tiers.disk_staging(disk_pieces_of_cache)),
      stores_("cache stores", side_mode(plan.input.policy), around, memory.tiers.disk_staging(disk_pieces_of_cache)) {}

void CacheLane::begin_sweep(const SweepWork& work) {
  group_ = work.group;
  rows_to_come_[group_.index()] = RowsToCome(work.micro_batches.front());
}

EventPtr& CacheLane::stored(LayerId layer, std::int32_t slot) {
  return stored_[static_cast<std::size_t>(index(layer)) * static_cast<std::size_t>(store_.layout().num_slots) +
                 static_cast<std::size_t>(slot)];
}

bool CacheLane::is_staged(LayerId layer, const MicroBatch& batch) const {
  return has(layer) && store_.is_staged(index(layer), batch.slot, calls_.split(batch.slot, batch.rows).device);
}

StagingSlot& CacheLane::start_load(LayerId layer, std::int32_t where, std::vector<CacheRow> rows) {
  StagingSlot& slot = slots_.next();
  loads_.wait(slot.free);
  loads_.wait(stored(layer, where));
  loads_.post([this, index = index(layer), where, rows = std::move(rows), data = slot.data](Transfer& transfer) {
    store_.load(index, where, rows, data, transfer);
  });
  slot.loaded = loads_.record();
  return slot;
}

void CacheLane::load(LayerId layer, const MicroBatch& batch) {
  if (!is_staged(layer, batch)) return;
  const std::span<const CacheRow> own = calls_.split(batch.slot, batch.rows).device;
  std::vector<CacheRow> rows = joined(own, batch.shared.runs_of_first(static_cast<std::int32_t>(own.size())));
  StagingSlot* slot = take_early(layer, batch.slot, rows);
  if (!slot) slot = &start_load(layer, batch.slot, std::move(rows));
  inputs_.push_back({slot->data, slot, slot->loaded});
  loads_.end_call();
}

// The rows are a guess: those of the group whose turn it is, as they will go on unless they end. Wrong, it costs one
// load; new rows have nothing yet that could be loaded.
void CacheLane::load_next_sweeps() {
  early_.reset();
  const RowsToCome& next = rows_to_come_[(group_.index() + 1) % rows_to_come_.size()];
  const auto first = std::ranges::find(index_, 0);
  if (first == index_.end() || next.rows.empty()) return;
  const LayerId layer(static_cast<std::int32_t>(first - index_.begin()));
  const std::span<const CacheRow> rows = calls_.split(next.slot, next.rows).device;
  if (!store_.is_staged(0, next.slot, rows)) return;
  std::vector<CacheRow> all = joined(rows, next.shared.runs_of_first(static_cast<std::int32_t>(rows.size())));
  StagingSlot& stage = start_load(layer, next.slot, all);
  early_ = Early{layer, next.slot, std::move(all), &stage};
  loads_.end_call();
}

// The first load of a sweep finds what the sweep before has loaded for it, or drops that: until then no sweep has
// changed the cache, so what counts is whether the image has every position that is wanted.
StagingSlot* CacheLane::take_early(LayerId layer, std::int32_t slot, std::span<const CacheRow> rows) {
  if (!early_) return nullptr;
  const Early early = *std::exchange(early_, std::nullopt);
  const auto is_there = [&](const CacheRow& wanted) {
    return wanted.start == 0 || std::ranges::any_of(early.rows, [&](const CacheRow& row) {
             return row.begin == wanted.begin && row.start >= wanted.start;
           });
  };
  const bool is_same = early.layer == layer && early.slot == slot;
  return is_same && std::ranges::all_of(rows, is_there) ? early.stage : nullptr;
}

const LaneInput& CacheLane::take_input(LayerId layer, const MicroBatch& batch) {
  input_ = {};
  if (is_staged(layer, batch)) {
    input_ = std::move(inputs_.front());
    inputs_.pop_front();
  }
  return input_;
}

void CacheLane::take_any() { input_ = {slots_.any_memory(), nullptr, nullptr}; }

KvView CacheLane::view(LayerId layer, const MicroBatch& batch, Stream& compute) {
  if (!has(layer)) return {};
  const std::span<const CacheRow> rows = calls_.split(batch.slot, batch.rows).device;
  const std::span<const CacheRow> runs = batch.shared.runs_of_first(static_cast<std::int32_t>(rows.size()));
  return tables_.view(index(layer), batch.slot, {rows, runs}, input_.data, compute);
}

void CacheLane::store(LayerId layer, const MicroBatch& batch, const EventPtr& computed) {
  if (!input_.slot) return;
  stores_.wait(computed);
  const std::span<const CacheRow> own = calls_.split(batch.slot, batch.rows).device;
  stores_.post([this, index = index(layer), where = batch.slot, rows = std::vector(own.begin(), own.end()),
                data = input_.data](Transfer& transfer) { store_.store(index, where, rows, data, transfer); });
  stored(layer, batch.slot) = input_.slot->free = stores_.record();
  stores_.end_call();
}

void CacheLane::synchronize() {
  loads_.synchronize();
  stores_.synchronize();
}

}  // namespace flexgen

#include "engine/sweep_batches.hpp"

#include <algorithm>

#include "base/error.hpp"
#include "engine/upload.hpp"
#include "ops/row_spans.hpp"

namespace flexgen {

static_assert(sizeof(SharedSpan) == shared_span_entries * sizeof(std::int32_t));

namespace {

// Appends ints to the host image and knows where they will be on the device.
class Packer {
 public:
  Packer(std::int32_t* host, std::int32_t* device, std::int64_t capacity)
      : host_(host), device_(device), capacity_(capacity) {}

  std::int32_t* take(std::int64_t count) {
    FLEXGEN_CHECK(used_ + count <= capacity_, "index arrays are larger than planned");
    used_ += count;
    return host_ + used_ - count;
  }
  // Structs of whole ints, where their alignment wants them.
  template <class T>
  T* take_structs(std::int64_t count) {
    constexpr std::int64_t alignment = alignof(T) / sizeof(std::int32_t);
    take((alignment - used_ % alignment) % alignment);
    return reinterpret_cast<T*>(take(count * static_cast<std::int64_t>(sizeof(T) / sizeof(std::int32_t))));
  }
  template <class T>
  T* on_device(const T* host) const {
    return reinterpret_cast<T*>(reinterpret_cast<std::byte*>(device_) +
                                (reinterpret_cast<const std::byte*>(host) - reinterpret_cast<std::byte*>(host_)));
  }
  std::int64_t used() const { return used_; }

 private:
  std::int32_t* host_;
  std::int32_t* device_;
  std::int64_t capacity_;
  std::int64_t used_ = 0;
};

BatchChunk pack_chunk(std::span<const RowWork> rows, Packer& packer) {
  BatchChunk chunk;
  const auto num_rows = static_cast<std::int32_t>(rows.size());
  std::int32_t num_tokens = 0;
  for (const RowWork& row : rows) num_tokens += row.count();
  std::int32_t* offset = packer.take(num_rows + 1);
  std::int32_t* start = packer.take(num_rows);
  std::int32_t* ids = packer.take(num_tokens);
  std::int32_t* positions = packer.take(num_tokens);
  std::int32_t num_outputs = 0;
  bool has_scores = false;
  for (const RowWork& row : rows) {
    num_outputs += row.num_outputs();
    has_scores = has_scores || row.wants_scores;
  }
  std::int32_t* outputs = packer.take(num_outputs);
  std::int32_t* targets = has_scores ? packer.take(num_outputs) : nullptr;
  const auto add_output = [&](std::int32_t packed_row, std::int32_t target) {
    if (targets) targets[chunk.num_outputs] = target;
    outputs[chunk.num_outputs++] = packed_row;
  };

  std::int32_t at = 0;
  for (std::int32_t r = 0; r < num_rows; ++r) {
    const RowWork& row = rows[static_cast<std::size_t>(r)];
    offset[r] = at;
    start[r] = row.start;
    for (std::int32_t t = 0; t < row.count(); ++t) {
      ids[at + t] = row.tokens[static_cast<std::size_t>(t)];
      positions[at + t] = row.start + t;
    }
    if (row.wants_scores)
      for (std::int32_t t = 0; t + 1 < row.count(); ++t)
        add_output(at + t, row.tokens[static_cast<std::size_t>(t) + 1]);
    at += row.count();
    if (row.num_outputs() > 0) add_output(at - 1, row.wants_scores ? row.next_token : -1);
    chunk.batch.max_count = std::max(chunk.batch.max_count, row.count());
    chunk.batch.max_length = std::max(chunk.batch.max_length, row.length());
  }
  offset[num_rows] = at;
  chunk.batch.num_rows = num_rows;
  chunk.batch.num_tokens = num_tokens;
  chunk.batch.host_token_offset = offset;
  chunk.batch.host_start = start;
  chunk.batch.token_offset = packer.on_device(offset);
  chunk.batch.start = packer.on_device(start);
  chunk.token_ids = packer.on_device(ids);
  chunk.positions = packer.on_device(positions);
  chunk.output_rows = packer.on_device(outputs);
  if (targets) chunk.targets = packer.on_device(targets);
  return chunk;
}

// Of the prompt's own tokens that are scored, and of what else a row has as outputs.
class ChoicePacker {
 public:
  /// @param how  [outputs of the chunk]
  ChoicePacker(SampleRow* how, TokenAdjustment* adjustments) : how_(how), adjustments_(adjustments) {}

  /// @param choice  the row's; null: it has none
  void add(const RowWork& row, const RowChoice* choice) {
    if (row.wants_scores) {
      const std::int32_t num_top = choice ? choice->num_prompt_top : 0;
      for (std::int32_t t = 1; t < row.count(); ++t)
        *how_++ = {.num_top = num_top, .given_token = row.tokens[static_cast<std::size_t>(t)]};
      if (row.next_token >= 0) *how_++ = {.num_top = num_top, .given_token = row.next_token};
    }
    if (row.num_outputs() == 0 || row.next_token >= 0) return;
    SampleRow& last = *how_++ = {};
    if (!choice || !row.wants_token) return;
    last = choice->how;
    last.first_adjustment = num_adjustments_;
    last.num_adjustments = static_cast<std::int32_t>(choice->adjustments.size());
    std::ranges::copy(choice->adjustments, adjustments_ + num_adjustments_);
    num_adjustments_ += last.num_adjustments;
  }

 private:
  SampleRow* how_;
  TokenAdjustment* adjustments_;
  std::int32_t num_adjustments_ = 0;
};

// Of the rows from `first` on, as many as the chunk has.
OutputChoices pack_choices(const MicroBatchWork& work, std::size_t first, const BatchChunk& chunk, Packer& packer) {
  const auto end = static_cast<std::int32_t>(first) + chunk.batch.num_rows;
  const auto begin = std::ranges::lower_bound(work.choices, static_cast<std::int32_t>(first), {}, &RowChoice::row);
  std::int64_t num_adjustments = 0;
  for (auto choice = begin; choice != work.choices.end() && choice->row < end; ++choice)
    num_adjustments += std::ssize(choice->adjustments);
  auto* const how = packer.take_structs<SampleRow>(chunk.num_outputs);
  auto* const adjustments = packer.take_structs<TokenAdjustment>(num_adjustments);
  ChoicePacker into(how, adjustments);
  auto choice = begin;
  for (auto r = static_cast<std::int32_t>(first); r < end; ++r) {
    const bool has_one = choice != work.choices.end() && choice->row == r;
    into.add(work.rows[static_cast<std::size_t>(r)], has_one ? &*choice : nullptr);
    if (has_one) ++choice;
  }
  return {packer.on_device(how), how, packer.on_device(adjustments)};
}

// What outputs of the rows come with.
void count_wishes(const MicroBatchWork& work, MicroBatch& batch) {
  for (const RowWork& row : work.rows) batch.has_scores = batch.has_scores || row.wants_scores;
  for (const RowChoice& choice : work.choices) {
    batch.has_scores = batch.has_scores || choice.wants_score;
    const RowWork& row = work.rows[static_cast<std::size_t>(choice.row)];
    batch.max_top = std::max({batch.max_top, choice.how.num_top, row.wants_scores ? choice.num_prompt_top : 0});
  }
}

// The first of the rows at the end that bring one token each.
std::size_t first_single_token(std::span<const RowWork> rows) {
  std::size_t first = rows.size();
  while (first > 0 && rows[first - 1].count() == 1) --first;
  return first;
}

SharedRuns shared_runs_of(std::span<const RowWork> rows) {
  if (std::ranges::all_of(rows, &std::vector<SharedRun>::empty, &RowWork::shared)) return {};
  std::vector<const RowWork*> each;
  for (const RowWork& row : rows) each.push_back(&row);
  return shared_runs(each);
}

void pack_spans(const MicroBatch& batch, BatchChunk& chunk, Packer& packer) {
  const std::int32_t num_rows = chunk.batch.num_rows;
  const std::vector<SharedSpan> spans = batch.shared.spans_of(chunk.first_row, num_rows);
  if (spans.empty()) return;
  const auto rows =
      std::span(batch.rows).subspan(static_cast<std::size_t>(chunk.first_row), static_cast<std::size_t>(num_rows));
  auto* const list = packer.take_structs<SharedSpan>(std::ssize(spans));
  std::ranges::copy(spans, list);
  std::int32_t* own_begin = packer.take(num_rows);
  std::int32_t* own_start = packer.take(num_rows);
  for (std::size_t r = 0; r < rows.size(); ++r) {
    own_begin[r] = rows[r].own_begin;
    own_start[r] = rows[r].start;
  }
  std::int64_t num_entries = 0;
  for (const SharedSpan& span : spans) num_entries += span.num_rows;
  std::int32_t* first = packer.take(num_rows + 1);
  std::int32_t* index = packer.take(num_entries);
  list_row_spans(spans, num_rows, first, index);
  SharedSpans& shared = chunk.shared;
  shared.num_spans = static_cast<std::int32_t>(spans.size());
  shared.host_spans = list;
  shared.host_own_begin = own_begin;
  shared.host_row_spans = {first, index};
  shared.row_spans = {packer.on_device(first), packer.on_device(index)};
  shared.spans = packer.on_device(list);
  shared.own_start = packer.on_device(own_start);
}

MicroBatch pack_micro_batch(const MicroBatchWork& work, DecodeCalls decode_calls, Packer& packer) {
  MicroBatch batch;
  batch.slot = work.slot;
  for (const RowWork& row : work.rows) batch.rows.push_back(cache_row_of(row));
  batch.shared = shared_runs_of(work.rows);
  count_wishes(work, batch);
  const std::size_t cut = decode_calls == DecodeCalls::own ? first_single_token(work.rows) : 0;
  std::size_t first = 0;
  while (first < work.rows.size()) {
    const std::size_t last = first < cut ? cut : work.rows.size();
    std::size_t end = first;
    std::int64_t tokens = 0;
    while (end < last && (end == first || tokens + work.rows[end].count() <= call_tokens))
      tokens += work.rows[end++].count();
    BatchChunk chunk = pack_chunk(std::span(work.rows).subspan(first, end - first), packer);
    chunk.first_row = static_cast<std::int32_t>(first);
    chunk.first_token = batch.num_tokens;
    chunk.first_output = batch.num_outputs;
    pack_spans(batch, chunk, packer);
    if (!work.choices.empty()) chunk.choices = pack_choices(work, first, chunk, packer);
    batch.num_tokens += chunk.batch.num_tokens;
    batch.num_outputs += chunk.num_outputs;
    batch.chunks.push_back(chunk);
    first = end;
  }
  return batch;
}

}  // namespace

SweepBatches::SweepBatches(TierMemory& memory, DecodeCalls decode_calls)
    : on_gpu_(memory.device().is_cuda()),
      host_(memory.host_side(Piece::index_arrays)),
      capacity_(static_cast<std::int64_t>(memory.part_bytes(Piece::index_arrays) / sizeof(std::int32_t))),
      decode_calls_(decode_calls) {
  const PieceView device = on_gpu_ ? memory.on_device(Piece::index_arrays) : PieceView{};
  for (std::size_t s = 0; s < sets_.size(); ++s) {
    sets_[s].host = reinterpret_cast<std::int32_t*>(host_[s]);
    sets_[s].device = on_gpu_ ? reinterpret_cast<std::int32_t*>(device[s]) : sets_[s].host;
  }
}

const std::vector<MicroBatch>& SweepBatches::prepare(const SweepWork& work, Stream& compute) {
  turn_ = 1 - turn_;
  Set& set = sets_[turn_];
  if (set.used) set.used->synchronize();  // two sweeps ago: long past
  Packer packer(set.host, set.device, capacity_);
  set.batches.clear();
  for (const MicroBatchWork& batch : work.micro_batches)
    set.batches.push_back(pack_micro_batch(batch, decode_calls_, packer));
  if (on_gpu_)
    upload(compute, host_.buffer(), host_.offset(turn_), reinterpret_cast<std::byte*>(set.device),
           static_cast<std::uint64_t>(packer.used()) * sizeof(std::int32_t), "index arrays");
  return set.batches;
}

void SweepBatches::mark_used(Stream& compute) { sets_[turn_].used = compute.record(); }

}  // namespace flexgen

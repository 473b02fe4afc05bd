// The sequences of a block in flight, each in a place of its own: micro-batch and cache row. A sequence that has ended
// leaves its place at once; who takes it, and when, is for admission to say.
#pragma once

#include <algorithm>
#include <cstdint>
#include <optional>
#include <utility>
#include <vector>

#include "base/error.hpp"
#include "batch/sequence.hpp"

namespace flexgen {

/// Where a sequence lives in its block.
struct Place {
  std::int32_t micro_batch = 0;  // 0 .. K-1
  std::int32_t cache_row = 0;    // 0 .. B-1
};

class Block {
 public:
  using Rows = std::vector<std::optional<Sequence>>;  // by cache row; none: the place is free

  /// @param first_slot  of the engine's cache slots, the one of micro-batch 0; the others follow it
  Block(std::int32_t first_slot, std::int32_t row_positions) : first_slot_(first_slot), row_positions_(row_positions) {}

  std::int32_t first_slot() const { return first_slot_; }
  bool is_empty() const { return num_sequences_ == 0; }
  /// Micro-batches that have had a sequence, [<= K][<= B].
  std::vector<Rows>& micro_batches() { return micro_batches_; }

  void admit(Place place, RowRequest request) {
    if (micro_batches_.size() <= index(place.micro_batch)) micro_batches_.resize(index(place.micro_batch) + 1);
    Rows& rows = micro_batches_[index(place.micro_batch)];
    if (rows.size() <= index(place.cache_row)) rows.resize(index(place.cache_row) + 1);
    FLEXGEN_CHECK(!rows[index(place.cache_row)], "a place of a block has two sequences");
    rows[index(place.cache_row)].emplace(std::move(request), place.cache_row, place.cache_row * row_positions_);
    ++num_sequences_;
  }

  /// The sequence that lives there; there must be one.
  Sequence& at(Place place) {
    std::optional<Sequence>& sequence = micro_batches_.at(index(place.micro_batch)).at(index(place.cache_row));
    FLEXGEN_CHECK(sequence.has_value(), "a place of a block has no sequence");
    return *sequence;
  }

  /// Frees the place of a sequence that has ended.
  void release(Place place) {
    at(place);
    micro_batches_[index(place.micro_batch)][index(place.cache_row)].reset();
    --num_sequences_;
  }

  /// Whether any of them goes on after the sweep under way, unless it stops before.
  bool wants_more() const {
    return std::ranges::any_of(micro_batches_, [](const Rows& rows) {
      return std::ranges::any_of(rows, [](const auto& sequence) { return sequence && sequence->wants_more(); });
    });
  }

 private:
  static std::size_t index(std::int32_t at) { return static_cast<std::size_t>(at); }

  std::int32_t first_slot_;
  std::int32_t row_positions_;
  std::int64_t num_sequences_ = 0;
  std::vector<Rows> micro_batches_;
};

}  // namespace flexgen

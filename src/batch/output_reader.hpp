// Takes what a sweep gave into the sequences that it brought: tokens and scores are told, sequences that end leave
// their block. A row whose numbers fail is finished; the others go on.
//
// Refers to the callbacks. Single-threaded.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "batch/block.hpp"
#include "batch/row.hpp"
#include "schedule/sweep_runner.hpp"

namespace flexgen {

class OutputReader {
 public:
  /// @param eos_tokens  any of them ends a row that stops at it
  OutputReader(std::span<const std::int32_t> eos_tokens, const RowCallbacks& callbacks)
      : eos_tokens_(eos_tokens), callbacks_(callbacks) {}

  /// @param sampled  of `work`'s micro-batches, in order. Throws InternalError where it is of another sweep.
  /// @param block    whose sequences `work` brought
  void take(const SweepWork& work, std::span<const SampledTokens> sampled, Block& block) const;

 private:
  /// A row's share of what its micro-batch gave.
  struct Outputs {
    std::span<const std::int32_t> tokens;  // choices, RowWork::num_outputs of them
    TokenScores prompt;                    // of the prompt's tokens after each that it brought, as far as there are any
    TokenScores token;                     // of its new token, where that is wanted
  };

  void take_micro_batch(const MicroBatchWork& batch, const SampledTokens& sampled, Block& block) const;
  void take_row(const RowWork& work, const Outputs& outputs, Place place, Block& block) const;

  std::span<const std::int32_t> eos_tokens_;
  const RowCallbacks& callbacks_;
};

}  // namespace flexgen

// Rows that a measurement runs: prompts of random tokens, the same in every run.
#pragma once

#include <cstdint>
#include <random>

#include "batch/row_source.hpp"
#include "spec/policy.hpp"

namespace flexgen {

/// Made as they are pulled. All of them generate as many tokens as they are allowed to.
class SyntheticRows final : public RowSource {
 public:
  /// @param shape  how many rows, of how many tokens each
  SyntheticRows(std::int32_t vocab, const JobShape& shape) : token_(0, vocab - 1), shape_(shape) {}

  std::optional<RowRequest> next_row() override;
  std::optional<std::int64_t> num_left() const override { return shape_.num_rows - num_made_; }

 private:
  std::mt19937_64 random_{20260101};
  std::uniform_int_distribution<std::int32_t> token_;
  JobShape shape_;
  std::int64_t num_made_ = 0;
};

}  // namespace flexgen

// Rows that a measurement runs: prompts of random tokens, the same in every run.
#pragma once

#include <cstdint>
#include <random>
#include <vector>

#include "run/rows/job_rows.hpp"
#include "run/rows/row_lengths.hpp"

namespace flexgen {

/// Made as they are pulled. All of them generate as many tokens as they are allowed to.
class SyntheticRows final : public JobRows {
 public:
  /// @param num_shared  tokens that all prompts begin with, as far as they are as long
  SyntheticRows(std::int32_t vocab, std::vector<RowLengths> lengths, std::int64_t num_shared = 0);

  JobShape shape() const override { return shape_of(lengths_); }
  std::optional<RowRequest> next_row() override;
  std::optional<std::int64_t> num_left() const override { return std::ssize(lengths_) - num_made_; }

 private:
  std::mt19937_64 random_{20260101};
  std::uniform_int_distribution<std::int32_t> token_;
  std::vector<RowLengths> lengths_;
  std::vector<std::int32_t> shared_;
  std::int64_t num_made_ = 0;
};

}  // namespace flexgen

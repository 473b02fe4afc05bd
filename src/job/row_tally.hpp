// What became of a job's rows, counted: errors by their code, lengths of sequences in tokens.
//
// Memory is bounded by the longest sequence, not by the number of rows. Single-threaded; a report of it is a value.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "base/fields.hpp"

namespace flexgen {

/// Lengths in tokens: bin i has those of `first + i * bin_tokens` up to the next bin's first.
struct LengthDistribution {
  std::uint64_t count = 0;
  std::uint64_t least = 0, most = 0;
  double mean = 0;
  std::uint64_t first = 0, bin_tokens = 1;
  std::vector<std::uint64_t> bins;
  static constexpr auto fields() {
    return std::tuple(field("count", &LengthDistribution::count), field("least", &LengthDistribution::least),
                      field("most", &LengthDistribution::most), field("mean", &LengthDistribution::mean),
                      field("first", &LengthDistribution::first), field("bin_tokens", &LengthDistribution::bin_tokens),
                      field("bins", &LengthDistribution::bins));
  }
};

struct RowsReport {
  std::map<std::string, std::uint64_t> errors;  // code -> rows
  LengthDistribution prompt, generated;         // of sequences that ended; a row may have several
};

class LengthTally {
 public:
  static constexpr std::size_t most_bins = 24;

  void add(std::uint64_t num_tokens);
  /// At most most_bins of equal width, a width of 1, 2 or 5 times a power of ten.
  LengthDistribution distribution() const;

 private:
  std::vector<std::uint64_t> counts_;  // by length
};

class RowTally {
 public:
  void add_error(std::string_view code) {
    ++errors_[std::string(code)];
    ++num_errors_;
  }
  void add_sequence(std::uint64_t num_prompt_tokens, std::uint64_t num_generated_tokens) {
    prompt_.add(num_prompt_tokens);
    generated_.add(num_generated_tokens);
  }
  std::uint64_t num_errors() const { return num_errors_; }
  RowsReport report() const { return {errors_, prompt_.distribution(), generated_.distribution()}; }

 private:
  std::map<std::string, std::uint64_t> errors_;
  std::uint64_t num_errors_ = 0;
  LengthTally prompt_, generated_;
};

}  // namespace flexgen

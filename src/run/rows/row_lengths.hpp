// How long the rows of a measurement are: drawn from ranges, or those of a real job.
//
// Plain data and free functions. Single-threaded.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "job/report.hpp"
#include "job/request_reader.hpp"
#include "spec/model_spec.hpp"
#include "spec/policy.hpp"
#include "text/tokenizer.hpp"

namespace flexgen {

/// Tokens of a row: its prompt, and those that it generates.
struct RowLengths {
  std::int32_t prompt = 1;
  std::int32_t generated = 1;
  std::int32_t shared = 0;  // of the prompt: as an earlier row begins
  bool operator==(const RowLengths&) const = default;
};

/// From `least` to `most`, each as likely.
struct LengthRange {
  std::int32_t least = 1;
  std::int32_t most = 1;

  bool is_drawn() const { return least != most; }
  bool operator==(const LengthRange&) const = default;
};

/// The same for the same seed.
std::vector<RowLengths> draw_lengths(const LengthRange& prompt, const LengthRange& generated, std::int64_t count,
                                     std::uint64_t seed);

struct InputLengths {
  std::vector<RowLengths> rows;  // one for every prompt
  std::size_t num_bad_rows = 0;  // which cannot run: they are left out
  std::string first_fault;       // of one of them
};

/// The lengths of the first `most` prompts (0: of all) of an input file, as `model` would run them. Those of rows that
/// do not say how much they generate are drawn from `generated`, as far as they fit. Throws as the reader does.
InputLengths read_lengths(RequestReader& reader, const Tokenizer& tokenizer, const ModelSpec& model,
                          const LengthRange& generated, std::int64_t most, std::uint64_t seed);

/// Of rows whose tokens are their own.
JobShape shape_of(const std::vector<RowLengths>& rows);
/// Of the rows themselves, that may share what they begin with.
JobShape shape_with_sharing(const std::vector<RowLengths>& rows);
/// Least, mean and most of them; there must be some.
LengthsReport describe_lengths(const std::vector<RowLengths>& rows);

}  // namespace flexgen

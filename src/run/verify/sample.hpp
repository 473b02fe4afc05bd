// Rows of a job by which it is verified: some of its input, as the model runs them, and what a job over all of it is
// planned by.
//
// Plain data and a free function. Single-threaded.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "job/request_reader.hpp"
#include "run/rows/open_row.hpp"
#include "spec/policy.hpp"

namespace flexgen {

/// One prompt of a row. The likeliest tokens are generated behind it, whatever the row says of sampling and stop
/// strings; prompt and tokens together are no longer than the model's positions, so that the whole can be scored.
struct SampleSequence {
  std::string row;                   // custom_id
  std::vector<std::int32_t> prompt;  // with one of the row's `choices` behind it, where it has some
  std::int32_t max_new_tokens = 0;
  bool stops_at_eos = true;
  std::vector<std::int32_t> stop_tokens = {};
};

struct Sample {
  std::vector<SampleSequence> sequences;
  std::size_t num_rows = 0;      // that the sequences are of
  std::size_t num_read = 0;      // rows of the input, the bad ones included; others may follow
  std::size_t num_bad_rows = 0;  // that cannot run: left out
  std::string first_fault;       // of one of them
  JobShape job;                  // what `generate` would plan its first pass by
};

/// Reads the first rows that can run, or draws so many from the whole input.
/// @param num_rows  at most so many
/// @param seed      of the draw; none: the first
/// Throws as the reader does, and UserError (file) where no row can run.
Sample read_sample(RequestReader& reader, const RowRules& rules, std::size_t num_rows,
                   std::optional<std::uint64_t> seed);

}  // namespace flexgen

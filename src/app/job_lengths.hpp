// The lengths of a job's rows where rows are made up: drawn, or those of an input. What bench and plan share.
#pragma once

#include <filesystem>
#include <vector>

#include "app/options.hpp"
#include "run/rows/row_lengths.hpp"
#include "spec/model_spec.hpp"

namespace flexgen {

/// As --input, or --prompt-len, --gen-len and --num-rows say. Throws UserError: rows that the model cannot run, an
/// input that cannot be read or has no good row.
/// @param directory  the model's, whose tokenizer reads an input
std::vector<RowLengths> choose_lengths(const Options& options, const std::filesystem::path& directory,
                                       const ModelSpec& model, int num_ranks);

}  // namespace flexgen

#include "app/job_lengths.hpp"

#include <fmt/core.h>

#include <cstdint>

#include "base/error.hpp"
#include "base/log.hpp"
#include "job/request_reader.hpp"
#include "run/model/model_text.hpp"

namespace flexgen {
namespace {

// One full block for every stage, unless told otherwise; rows of unlike lengths show more than one wave of them does.
std::int64_t default_rows(const Options& options, int num_ranks) {
  const PolicyRequest& policy = options.policy;
  const std::int64_t block = static_cast<std::int64_t>(policy.gpu_batch_size.value_or(policy.is_placed() ? 4 : 64)) *
                             policy.num_gpu_batches.value_or(1);
  const bool is_drawn = options.bench.prompt_len.is_drawn() || options.bench.gen_len.is_drawn();
  return block * num_ranks * (is_drawn ? 4 : 1);
}

std::vector<RowLengths> lengths_of_input(const Options& options, const std::filesystem::path& directory,
                                         const ModelSpec& model) {
  const BenchOptions& shape = options.bench;
  const Tokenizer tokenizer = open_tokenizer(directory, model);
  RequestReader reader(options.rows.inputs, options.rows.defaults(shape.gen_len.most));
  const InputLengths lengths =
      read_lengths(reader, tokenizer, model, shape.gen_len, shape.num_rows, static_cast<std::uint64_t>(shape.seed));
  if (lengths.rows.empty())
    throw UserError(ExitCode::file, "--input has no row that this model can run", lengths.first_fault);
  if (lengths.num_bad_rows > 0)
    log::warn(fmt::format("{} rows of --input cannot run, and are left out", lengths.num_bad_rows));
  return lengths.rows;
}

}  // namespace

std::vector<RowLengths> choose_lengths(const Options& options, const std::filesystem::path& directory,
                                       const ModelSpec& model, int num_ranks) {
  const BenchOptions& shape = options.bench;
  if (!options.rows.inputs.paths.empty()) return lengths_of_input(options, directory, model);
  if (std::int64_t{shape.prompt_len.most} + shape.gen_len.most - 1 > model.max_positions)
    throw UserError(ExitCode::usage,
                    fmt::format("rows of {} + {} tokens cannot be run", shape.prompt_len.most, shape.gen_len.most),
                    fmt::format("the model has {} positions", model.max_positions), "Lower --prompt-len or --gen-len");
  const std::int64_t num_rows = shape.num_rows > 0 ? shape.num_rows : default_rows(options, num_ranks);
  return draw_lengths(shape.prompt_len, shape.gen_len, num_rows, static_cast<std::uint64_t>(shape.seed));
}

}  // namespace flexgen

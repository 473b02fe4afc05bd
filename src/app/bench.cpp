// flexgen-dist bench: the throughput of a model and policy on synthetic prompts.
#include <fmt/core.h>

#include <optional>

#include "app/commands.hpp"
#include "base/error.hpp"
#include "job/progress.hpp"
#include "run/model/compressed_model.hpp"
#include "run/model/model_folder.hpp"
#include "run/rows/number_fault.hpp"
#include "run/rows/synthetic_rows.hpp"
#include "run/run_job.hpp"

namespace flexgen {
namespace {

// One full block for every stage, unless told otherwise.
std::int64_t default_rows(const PolicyRequest& policy, int num_ranks) {
  const std::int64_t block = static_cast<std::int64_t>(policy.gpu_batch_size.value_or(policy.placement ? 4 : 64)) *
                             policy.num_gpu_batches.value_or(1);
  return block * num_ranks;
}

// The speed of a model that gives no numbers says nothing.
[[noreturn]] void refuse_numbers(DType dtype) {
  const NumberFault fault = number_fault(dtype);
  throw UserError(ExitCode::model, "this model cannot be measured", fault.reason, fault.suggestion);
}

}  // namespace

int run_bench(MpiSession& session, const Options& options) {
  Communicator& ranks = session.communicator();
  const BenchOptions& shape = options.bench;
  JobInput input;
  input.command = "bench";
  const ModelFolder folder =
      open_model(options.model, ranks, options.model.dummy ? ModelUse::shape : ModelUse::weights);
  std::filesystem::path directory = folder.directory;
  input.model = folder.spec;
  ranks.agree_on_error([&] {
    if (shape.prompt_len + shape.gen_len - 1 > input.model.max_positions)
      throw UserError(
          ExitCode::usage, fmt::format("rows of {} + {} tokens cannot be run", shape.prompt_len, shape.gen_len),
          fmt::format("the model has {} positions", input.model.max_positions), "Lower --prompt-len or --gen-len");
  });
  directory = save_compressed(options.model, options.policy.weight_format, directory, input.model, ranks);
  const std::int64_t num_rows = shape.num_rows > 0 ? shape.num_rows : default_rows(options.policy, ranks.size());
  input.shape.add_rows(shape.prompt_len, shape.gen_len, num_rows);
  input.make_source = [&]() -> std::shared_ptr<WeightSource> {
    return options.model.dummy ? make_random_source() : open_weights(directory, input.model);
  };
  std::optional<SyntheticRows> rows;
  std::unique_ptr<Progress> progress;
  DType dtype = DType::float32;
  if (ranks.rank() == 0) {
    rows.emplace(input.model.vocab, input.shape);
    input.rows = &*rows;
    const auto all_tokens = static_cast<std::uint64_t>(num_rows) * static_cast<std::uint64_t>(shape.gen_len);
    input.on_start = [&, all_tokens](const Policy& policy) {
      dtype = policy.dtype;
      progress = Progress::to_stderr(static_cast<std::size_t>(num_rows), all_tokens, options.files.quiet);
    };
    input.callbacks.on_token = [&](RowId, std::int32_t) {
      progress->add_tokens(1);
      return false;
    };
    input.callbacks.on_finished = [&](RowId, FinishReason reason) {
      if (reason == FinishReason::not_a_number) refuse_numbers(dtype);
      progress->add_row();
    };
    input.count_job = [&, all_tokens]() -> JobReport {
      const auto count = static_cast<std::uint64_t>(num_rows);
      return {count, 0, count, count * static_cast<std::uint64_t>(shape.prompt_len), all_tokens};
    };
  }

  const Report report = run_job(session, options, input);
  if (ranks.rank() != 0) return static_cast<int>(ExitCode::ok);
  progress->finish();
  return conclude(report, options.files, SummaryRole::result);
}

}  // namespace flexgen

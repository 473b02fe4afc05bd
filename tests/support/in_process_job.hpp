// A whole job in the test's own process: ranks are threads, weights come from any source, logits are kept.
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <memory>
#include <optional>
#include <vector>

#include "base/trace.hpp"
#include "batch/batch_driver.hpp"
#include "comm/transport.hpp"
#include "engine/stage.hpp"
#include "ops/context.hpp"
#include "spec/model_spec.hpp"
#include "spec/policy.hpp"
#include "weights/weight_source.hpp"

namespace flexgen::test {

struct InProcessJob {
  ModelSpec model;
  Policy policy;
  int num_ranks = 1;
  std::vector<StagePolicy> stages;   // by rank; empty: all as the policy has it
  std::vector<std::int32_t> slices;  // decoder layers by rank; empty: balanced
  Device device;
  Backend backend = Backend::native;
  std::vector<std::vector<std::int32_t>> prompts;
  std::int32_t new_tokens = 1;             // of every row
  std::vector<std::int32_t> fewer_tokens;  // of the first rows: what they want instead
  bool scores = false;                     // the prompts are scored; new_tokens may then be 0
  /// Of the first rows; null: the likeliest tokens. Alternatives are as many of its prompt's tokens as of its own.
  std::vector<std::shared_ptr<const TokenRules>> rules;
  std::filesystem::path offload_dir;
  bool keep_logits = true;
  bool keep_trace = false;
  std::optional<bool> wants_plain_layer;  // unset: as the engine chooses, on a GPU alone
  std::function<std::shared_ptr<WeightSource>(int rank)> make_source;
  /// Told of every token, `step` counting those of the row from 0; may be empty.
  std::function<void(RowId row, std::size_t step)> on_token;
  /// Changes a rank's plan before its memory is taken; looks at a rank's stage at its end. Both may be empty.
  std::function<void(StagePlan& plan)> change_plan;
  std::function<void(const Stage& stage)> look_at;
  /// A transport to use in the place of the rank's own; null: that one.
  std::function<std::unique_ptr<Transport>(Transport& own)> decorate;
};

struct InProcessResult {
  std::vector<std::vector<std::int32_t>> ids;           // [row][step]
  std::vector<FinishReason> reasons;                    // [row]
  std::vector<std::vector<float>> scores;               // [row], of its prompt and tokens, where they are asked for
  std::vector<std::vector<std::int32_t>> top_tokens;    // [row][score * alternatives], as many as its rules ask for
  std::vector<std::vector<float>> top_scores;           // the same
  std::vector<std::vector<std::vector<float>>> logits;  // [row][step][vocab]; empty without keep_logits
  std::vector<TraceEvent> trace;                        // of all ranks; empty without keep_trace
  PhaseTimes times;
  std::int64_t num_saved_tokens = 0;  // BatchDriver's
};

/// Runs it to its end. Whatever any rank throws is thrown here once all ranks have ended.
InProcessResult run_in_process(const InProcessJob& job);

/// Runs `body` on a thread of its own. When it is not done after `seconds` the process aborts with `what`: a hang
/// cannot be undone, but it must not look like anything else. Exceptions are passed on.
void within(double seconds, const char* what, const std::function<void()>& body);

}  // namespace flexgen::test

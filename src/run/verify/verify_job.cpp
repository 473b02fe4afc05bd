#include "run/verify/verify_job.hpp"

#include <fmt/core.h>

#include <algorithm>
#include <memory>
#include <utility>

#include "base/error.hpp"
#include "base/log.hpp"
#include "comm/exchange.hpp"
#include "job/live_counts.hpp"
#include "run/model/compressed_model.hpp"
#include "run/plain_request.hpp"
#include "run/rows/number_fault.hpp"
#include "run/run_job.hpp"
#include "run/verify/sample_rows.hpp"
#include "run/version.hpp"

namespace flexgen {
namespace {

// What a run leaves on rank 0.
struct SampleResults {
  Policy policy;  // rank 0's
  std::vector<SequenceOutcome> outcomes;
};

// What a policy's numbers depend on, from rank 0 to the others.
struct PolicyNumbers {
  std::string dtype;
  std::int32_t weight_bits = 0, weight_group = 0, cache_bits = 0, cache_group = 0;
  static constexpr auto fields() {
    return std::tuple(field("dtype", &PolicyNumbers::dtype), field("weight_bits", &PolicyNumbers::weight_bits),
                      field("weight_group", &PolicyNumbers::weight_group),
                      field("cache_bits", &PolicyNumbers::cache_bits),
                      field("cache_group", &PolicyNumbers::cache_group));
  }
};

PolicyNumbers numbers_of(const Policy& policy) {
  return {std::string(dtype_name(policy.dtype)), policy.weight_format.bits, policy.weight_format.group,
          policy.cache_format.bits, policy.cache_format.group};
}

class Verification {
 public:
  Verification(MpiSession& session, const std::filesystem::path& directory, const ModelSpec& model,
               const Sample* sample)
      : session_(session), directory_(directory), model_(model), sample_(sample) {}

  SampleResults refer(const JobRequest& request);
  SampleResults generate(const JobRequest& request);
  SampleResults score(const JobRequest& request, const SampleResults& generated, const SampleResults& reference);

 private:
  std::unique_ptr<SampleRows> rows_for(SampleStep step, std::vector<SequenceOutcome> outcomes) const;
  std::unique_ptr<SampleRows> rows_for(SampleStep step) const;
  SampleResults run(const char* what, const JobRequest& request, std::unique_ptr<SampleRows> rows);

  MpiSession& session_;
  const std::filesystem::path& directory_;
  const ModelSpec& model_;
  const Sample* sample_;
};

std::unique_ptr<SampleRows> Verification::rows_for(SampleStep step, std::vector<SequenceOutcome> outcomes) const {
  return sample_ ? std::make_unique<SampleRows>(sample_->sequences, step, std::move(outcomes)) : nullptr;
}

std::unique_ptr<SampleRows> Verification::rows_for(SampleStep step) const {
  return rows_for(step, std::vector<SequenceOutcome>(sample_ ? sample_->sequences.size() : 0));
}

// Rank 0's.
void feed(JobInput& input, SampleRows& rows, LiveCounts& counts, Policy& policy) {
  input.rows = &rows;
  input.on_start = [&](const Policy& chosen) {
    policy = chosen;
    counts.set_total_rows(rows.outcomes().size());
  };
  input.callbacks.on_token = [&](RowId id, std::int32_t token) {
    counts.add_tokens(1);
    rows.add_token(id, token);
    return false;
  };
  input.callbacks.on_scores = [&](RowId id, const TokenScores& tokens) { rows.add_scores(id, tokens); };
  input.callbacks.on_finished = [&](RowId id, FinishReason reason) {
    if (rows.finish(id, reason)) counts.add_row();
  };
  input.count_job = [] { return JobReport{}; };
}

SampleResults Verification::run(const char* what, const JobRequest& request, std::unique_ptr<SampleRows> rows) {
  if (rows) log::info(fmt::format("verify: {}", what));
  SampleResults results;
  LiveCounts counts;
  JobInput input;
  input.command = "verify";
  input.model = model_;
  input.make_source = [this] { return open_weights(directory_, model_); };
  input.counts = &counts;
  if (rows) feed(input, *rows, counts, results.policy);
  run_job(session_, request, input);
  if (rows) results.outcomes = rows->outcomes();
  return results;
}

SampleResults Verification::refer(const JobRequest& request) {
  JobRequest plain = uncompressed_request(request);
  plain.policy.prefix_sharing = false;
  plain.policy.dtype = DType::float32;
  try {
    return run("the reference", plain, rows_for(SampleStep::generate_and_score));
  } catch (const AgreedError& error) {
    if (error.code() != ExitCode::does_not_fit || request.policy.dtype == DType::float32) throw;
    if (sample_)
      log::warn(fmt::format("the reference computes in the job's own type, as float32 has no room: {}", error.what()));
  }
  plain.policy.dtype = request.policy.dtype;
  return run("the reference", plain, rows_for(SampleStep::generate_and_score));
}

SampleResults Verification::generate(const JobRequest& request) {
  std::unique_ptr<SampleRows> rows = rows_for(SampleStep::generate);
  if (rows) rows->plan_as(sample_->job);
  JobRequest own = request;
  own.files = plain_request(request).files;  // those that were asked for are of the whole
  return run("the policy's answers", own, std::move(rows));
}

SampleResults Verification::score(const JobRequest& request, const SampleResults& generated,
                                  const SampleResults& reference) {
  const PolicyNumbers numbers = share(session_.communicator(), numbers_of(generated.policy));
  JobRequest same = plain_request(request);
  same.policy.dtype = parse_dtype(numbers.dtype);
  same.policy.weight_format = {numbers.weight_bits, numbers.weight_group};
  same.policy.cache_format = {numbers.cache_bits, numbers.cache_group};
  std::vector<SequenceOutcome> texts(reference.outcomes.size());
  for (std::size_t s = 0; s < texts.size(); ++s) texts[s].tokens = reference.outcomes[s].tokens;
  return run("the policy's scores", same, rows_for(SampleStep::score, std::move(texts)));
}

Closeness closeness_of(const Policy& policy, const Policy& reference) {
  if (policy.weight_format != reference.weight_format || policy.cache_format != reference.cache_format ||
      policy.attention_sparsity < 1)
    return Closeness::lossy;
  const bool are_float32 = policy.dtype == DType::float32 && reference.dtype == DType::float32;
  return are_float32 ? Closeness::exact : Closeness::rounded;
}

void require_numbers(const SampleResults& reference) {
  if (std::ranges::all_of(reference.outcomes, &SequenceOutcome::has_numbers)) return;
  const NumberFault fault = number_fault(reference.policy.dtype);
  throw UserError(ExitCode::model, "the reference gives no numbers for some rows", fault.reason, fault.suggestion);
}

void describe_sample(const Sample& sample, VerifyReport& report) {
  report.rows = sample.num_rows;
  report.sequences = sample.sequences.size();
  report.read_rows = sample.num_read;
  report.bad_rows = sample.num_bad_rows;
}

void describe_policies(const Policy& policy, const Policy& reference, VerifyReport& report) {
  report.policy = {std::string(dtype_name(policy.dtype)), to_flags(policy)};
  report.reference = {std::string(dtype_name(reference.dtype)), to_flags(reference)};
  report.closeness = closeness_name(closeness_of(policy, reference));
  report.tie_margin = tie_margin(policy.dtype);
  if (reference.dtype != DType::float32)
    report.notes.push_back(fmt::format(
        "the reference is in {}, as float32 had no room: what that type rounds is not seen", report.reference.dtype));
  if (policy.attention_sparsity < 1)
    report.notes.emplace_back(
        "perplexities are without sparse attention: tokens that are generated have it, texts that are scored have not");
}

}  // namespace

VerifyReport verify_policy(MpiSession& session, const JobRequest& request, const VerifyRules& rules,
                           const std::filesystem::path& directory, const ModelSpec& model, const Sample* sample) {
  Communicator& ranks = session.communicator();
  Verification verification(session, directory, model, sample);
  const SampleResults reference = verification.refer(request);
  ranks.agree_on_error([&] { require_numbers(reference); });
  const SampleResults generated = verification.generate(request);
  const SampleResults scored = verification.score(request, generated, reference);
  VerifyReport report;
  if (!sample) return report;
  report.version = version_text();
  report.model = model.name;
  report.ranks = ranks.size();
  describe_sample(*sample, report);
  describe_policies(generated.policy, reference.policy, report);
  report.comparison =
      compare_runs(sample->sequences, {reference.outcomes, generated.outcomes, scored.outcomes}, report.tie_margin);
  report.max_perplexity_increase = rules.max_perplexity_increase;
  report.reasons =
      judge_policy(report.comparison, closeness_of(generated.policy, reference.policy), rules.max_perplexity_increase);
  report.passes = report.reasons.empty();
  return report;
}

}  // namespace flexgen

#include "tests/support/in_process_job.hpp"

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <future>
#include <map>
#include <mutex>
#include <stdexcept>
#include <utility>

#include "base/bytes.hpp"
#include "batch/token_chooser.hpp"
#include "comm/in_process.hpp"
#include "engine/stage.hpp"
#include "model/layer.hpp"
#include "model/slice_description.hpp"
#include "policy/block_limits.hpp"
#include "policy/stage_plan.hpp"
#include "tests/support/listed_rows.hpp"

namespace flexgen::test {
namespace {

using LogitsByCall = std::map<std::pair<std::int64_t, std::int32_t>, std::vector<float>>;  // (sweep, micro-batch)

struct Collected {
  std::mutex mutex;
  LogitsByCall logits;
  std::vector<RowId> order;  // of the tokens: by sweep, micro-batch, output
};

JobShape shape_of(const InProcessJob& job) {
  JobShape shape;
  for (std::size_t r = 0; r < job.prompts.size(); ++r)
    shape.add_rows(static_cast<std::int32_t>(job.prompts[r].size()),
                   r < job.fewer_tokens.size() ? job.fewer_tokens[r] : job.new_tokens);
  shape.scores = job.scores;
  for (std::size_t r = 0; r < job.rules.size(); ++r)
    if (job.rules[r]) count_rules(*job.rules[r], std::ssize(job.prompts[r]), job.new_tokens, shape.sampling);
  return shape;
}

void keep_scores(const TokenScores& tokens, std::int32_t num_top, std::size_t row, InProcessResult& result) {
  for (std::size_t i = 0; i < tokens.scores.size(); ++i) {
    result.scores[row].push_back(tokens.scores[i]);
    for (std::int32_t t = 0; t < num_top; ++t) {
      const std::size_t at = i * static_cast<std::size_t>(tokens.max_top) + static_cast<std::size_t>(t);
      result.top_tokens[row].push_back(tokens.top_tokens[at]);
      result.top_scores[row].push_back(tokens.top_scores[at]);
    }
  }
}

void generate(const InProcessJob& job, Stage& stage, Collected& collected, InProcessResult& result) {
  std::deque<RowRequest> rows;
  for (std::size_t r = 0; r < job.prompts.size(); ++r) {
    RowRequest& row = rows.emplace_back();
    row.id = RowId(static_cast<std::int64_t>(r));
    row.prompt = job.prompts[r];
    row.max_new_tokens = r < job.fewer_tokens.size() ? job.fewer_tokens[r] : job.new_tokens;
    row.stop_at_eos = false;
    row.score_prompt = job.scores;
    if (r < job.rules.size()) row.rules = job.rules[r];
    row.answer = static_cast<std::uint32_t>(r);
  }
  RowCallbacks callbacks;
  callbacks.on_token = [&](RowId row, std::int32_t token) {
    collected.order.push_back(row);
    result.ids[row.index()].push_back(token);
    if (job.on_token) job.on_token(row, result.ids[row.index()].size() - 1);
    return false;
  };
  callbacks.on_finished = [&](RowId row, FinishReason reason) { result.reasons[row.index()] = reason; };
  callbacks.on_scores = [&](RowId row, const TokenScores& tokens) {
    const std::size_t r = row.index();
    const bool has_rules = r < job.rules.size() && job.rules[r];
    keep_scores(tokens, has_rules ? job.rules[r]->num_prompt_top : 0, r, result);
  };
  const PlanInput& plan = stage.plan().input;
  BatchDriver driver(stage, plan.policy, block_limits(plan.policy, plan.job), job.model.eos_tokens);
  ListedRows source(std::move(rows));
  driver.run(source, callbacks);
  result.times = driver.times();
  result.num_saved_tokens = driver.num_saved_tokens();
}

void run_rank(const InProcessJob& job, Transport& own, InProcessWorld& world, Collected& collected,
              InProcessResult& result) {
  const int rank = own.rank();
  const std::unique_ptr<Transport> decorated = job.decorate ? job.decorate(own) : nullptr;
  StageConfig config;
  config.device = job.device;
  config.keep_trace_events = job.keep_trace;
  const auto own_rank = static_cast<std::size_t>(rank);
  config.plan.bounds =
      job.slices.empty() ? balanced_slices(job.model, job.num_ranks)[own_rank] : slice_bounds(job.slices, own_rank);
  Policy policy = job.policy;
  if (!job.stages.empty()) static_cast<StagePolicy&>(policy) = job.stages.at(own_rank);
  policy.num_groups = job.num_ranks;
  config.plan.input =
      plan_input(job.model, describe_slice(job.model, config.plan.bounds, policy.separate_layers, config.device),
                 policy, shape_of(job), {rank > 0, rank + 1 < job.num_ranks, true});
  config.budgets = {4 * GiB, 4 * GiB, 4 * GiB};
  if (job.wants_plain_layer) config.plan.input.wants_plain_layer = *job.wants_plain_layer;
  config.plan.memory = plan_memory(config.plan.input, config.budgets);
  if (job.change_plan) job.change_plan(config.plan);
  config.backend = job.backend;
  config.source = job.make_source(rank);
  config.offload_dir = job.offload_dir;
  config.transport = decorated ? decorated.get() : &own;
  if (job.keep_logits && rank + 1 == job.num_ranks)
    config.on_logits = [&](std::int64_t sweep, MicroBatchId k, std::span<const float> logits) {
      const std::lock_guard lock(collected.mutex);
      collected.logits[{sweep, k.value}].assign(logits.begin(), logits.end());
    };
  config.on_error = [&world, rank](std::exception_ptr error) { world.fail(rank, std::move(error)); };
  const auto on_error = config.on_error;
  Stage stage(std::move(config));
  try {
    if (rank == 0) generate(job, stage, collected, result);
    else stage.serve();
    const std::vector<TraceEvent> events = stage.tracer().events();
    const std::lock_guard lock(collected.mutex);
    if (job.look_at) job.look_at(stage);
    result.trace.insert(result.trace.end(), events.begin(), events.end());
  } catch (...) {
    on_error(std::current_exception());  // before the stage is taken down: others may wait for it
    throw;
  }
}

// Sweeps are collected in the order of their numbers, so the tokens' order is that of the logits.
void assign_logits(const Collected& collected, std::size_t vocab, InProcessResult& result) {
  std::size_t next = 0;
  for (const auto& [call, logits] : collected.logits)
    for (std::size_t at = 0; at < logits.size(); at += vocab, ++next) {
      const auto begin = logits.begin() + static_cast<std::ptrdiff_t>(at);
      result.logits[collected.order.at(next).index()].emplace_back(begin, begin + static_cast<std::ptrdiff_t>(vocab));
    }
  if (!collected.logits.empty() && next != collected.order.size())
    throw std::logic_error("logits and tokens do not match");
}

}  // namespace

InProcessResult run_in_process(const InProcessJob& job) {
  InProcessResult result;
  result.ids.resize(job.prompts.size());
  result.reasons.resize(job.prompts.size());
  result.scores.resize(job.prompts.size());
  result.top_tokens.resize(job.prompts.size());
  result.top_scores.resize(job.prompts.size());
  result.logits.resize(job.prompts.size());
  Collected collected;
  InProcessWorld world(job.num_ranks);
  world.run([&](Transport& transport, Communicator&) { run_rank(job, transport, world, collected, result); });
  assign_logits(collected, static_cast<std::size_t>(job.model.vocab), result);
  return result;
}

void within(double seconds, const char* what, const std::function<void()>& body) {
  std::future<void> done = std::async(std::launch::async, body);
  if (done.wait_for(std::chrono::duration<double>(seconds)) != std::future_status::ready) {
    std::fprintf(stderr, "%s: not done after %.0f s\n", what, seconds);
    std::abort();
  }
  done.get();
}

}  // namespace flexgen::test

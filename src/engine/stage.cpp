#include "engine/stage.hpp"

#include <algorithm>

#include "base/error.hpp"
#include "device/stream.hpp"
#include "schedule/zigzag.hpp"

namespace flexgen {
namespace {

TracePhase phase_of(const SweepWork& work) {
  if (work.num_decode_tokens() == 0) return TracePhase::prefill;
  return work.num_prompt_tokens() == 0 ? TracePhase::decode : TracePhase::mixed;
}

}  // namespace

Stage::Stage(StageConfig config)
    : config_(std::move(config)),
      tracer_(config_.keep_trace_events),
      layers_(make_layers(config_.plan.input.model, config_.plan.bounds, config_.plan.input.policy.separate_layers)) {
  Transport* transport = is_alone() ? nullptr : config_.transport;
  const std::uint64_t begin_ns = now_ns();
  const double pinned_before = device_call_counts().pinning_seconds;
  use_device(config_.device);
  memory_ =
      std::make_unique<StageMemory>(config_.plan, config_.budgets, config_.source, config_.device, config_.offload_dir);
  neighbours_ =
      std::make_unique<Neighbours>(transport, memory_->tiers, hidden_token_bytes(config_.plan.input), &waits_);
  const auto sink = [this](SampledTokens tokens) {
    if (is_alone()) push_tokens(std::move(tokens));
    else neighbours_->send_tokens(tokens);
  };
  const Surroundings around{config_.device, config_.backend, tracer_,
                            [this](const std::exception_ptr& error) { push_error(error); }, &waits_};
  executor_ = std::make_unique<SliceExecutor>(config_.plan, layers_, *memory_, *neighbours_, around,
                                              OutputSinks{sink, config_.on_logits});
  executor_->fill_weights();
  executor_->warm_up();
  load_seconds_ = static_cast<double>(now_ns() - begin_ns) / 1e9;
  pinning_seconds_ = device_call_counts().pinning_seconds - pinned_before;
}

Stage::~Stage() = default;

void Stage::push_tokens(SampledTokens tokens) {
  const std::lock_guard lock(mutex_);
  tokens_.push_back(std::move(tokens));
  changed_.notify_one();
}

void Stage::push_error(const std::exception_ptr& error) {
  {
    const std::lock_guard lock(mutex_);
    if (!error_) error_ = error;
    changed_.notify_one();
  }
  if (config_.on_error) config_.on_error(error);
}

void Stage::guarded(const std::function<void()>& body) {
  try {
    body();
  } catch (...) {
    if (config_.on_error) config_.on_error(std::current_exception());
    throw;
  }
}

void Stage::run_own_part(const SweepWork& work) {
  if (config_.on_sweep) config_.on_sweep(work);
  const std::uint64_t begin_ns = now_ns();
  tracer_.begin_phase(phase_of(work), begin_ns);
  const SweepShape shape{static_cast<std::int32_t>(layers_.size()),
                         static_cast<std::int32_t>(work.micro_batches.size())};
  executor_->begin_sweep(work);
  zigzag_sweep(*executor_, shape, {first_weights_loaded_, work.more_follow});
  executor_->end_sweep();
  first_weights_loaded_ = work.more_follow;
  sweep_ns_ += now_ns() - begin_ns;
}

void Stage::finish_own_part() {
  executor_->synchronize();
  neighbours_->finish_sending(&tracer_);
}

void Stage::run(const SweepWork& work) {
  guarded([&] {
    neighbours_->announce(work);
    run_own_part(work);
  });
}

std::vector<SampledTokens> Stage::collect(std::size_t num_micro_batches) {
  std::vector<SampledTokens> collected;
  guarded([&] {
    while (collected.size() < num_micro_batches) {
      if (!is_alone()) {
        collected.push_back(neighbours_->receive_tokens());
        continue;
      }
      std::unique_lock lock(mutex_);
      changed_.wait(lock, [&] { return error_ || !tokens_.empty(); });
      if (error_) std::rethrow_exception(error_);
      collected.push_back(std::move(tokens_.front()));
      tokens_.pop_front();
    }
  });
  return collected;
}

void Stage::settle() {
  guarded([&] {
    FLEXGEN_CHECK(is_alone(), "ranks that settle would wait for one another");
    executor_->synchronize();
  });
}

void Stage::finish() {
  guarded([&] {
    neighbours_->announce_end();
    finish_own_part();
  });
}

void Stage::serve() {
  guarded([&] {
    while (const std::optional<SweepWork> work = neighbours_->next_sweep()) run_own_part(*work);
    finish_own_part();
  });
}

}  // namespace flexgen

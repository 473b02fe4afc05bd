#include "run/watch/plan_watch.hpp"

#include <fmt/core.h>

#include <exception>
#include <utility>

#include "base/error.hpp"
#include "base/log.hpp"
#include "comm/exchange.hpp"
#include "policy/block_limits.hpp"
#include "run/planning/plan_question.hpp"
#include "run/planning/replan.hpp"

namespace flexgen {
namespace {

// A job that is over sooner is told nothing, whatever was off.
constexpr double seconds_worth_a_word = 1;

// From rank to rank.
struct Found {
  std::uint64_t ceiling = num_ceilings;  // that: none is wrong
  double factor = 1;
  static constexpr auto fields() {
    return std::tuple(field("ceiling", &Found::ceiling), field("factor", &Found::factor));
  }
};

std::string took(const PlanCheckReport& check) {
  return fmt::format("rank {}'s first {} sweeps took {:.2f} s, {:.2f} s were predicted", check.rank, check.sweeps,
                     check.measured_seconds, check.predicted_seconds);
}

std::string explanation(const PlanCheckReport& check) {
  if (check.wrong_ceiling.empty()) return "no ceiling of the profile explains that";
  const char* unit = check.wrong_ceiling == ceiling_name(Ceiling::matrix) ? "GFLOP/s" : "GB/s";
  return fmt::format("{} came to {:.4g} {}, the profile says {:.4g}", check.wrong_ceiling, check.measured_rate * 1e-9,
                     unit, check.profile_rate * 1e-9);
}

bool has_rates(const std::optional<LoadedProfile>& loaded, bool on_gpu) {
  return loaded && (!on_gpu || loaded->profile.gpu);
}

}  // namespace

void PlanWatch::correct(RankProfiles& profiles, bool on_gpu) {
  if (!request_.machine.replan) return;
  ranks_.agree_on_error([&] {
    if (has_rates(profiles[static_cast<std::size_t>(ranks_.rank())], on_gpu)) return;
    throw UserError(ExitCode::usage, "--replan cannot be honoured", "this machine has no hardware profile to plan by",
                    "Measure one with flexgen-dist profile");
  });
  const auto wrong = std::exchange(wrong_, std::nullopt);
  const Found own = wrong ? Found{static_cast<std::uint64_t>(wrong->ceiling), wrong->factor()} : Found{};
  const std::vector<Found> all = gather(ranks_, own);
  for (std::size_t r = 0; r < all.size(); ++r)
    if (all[r].ceiling < num_ceilings)
      correct_rates(profiles[r]->profile, use_, static_cast<Ceiling>(all[r].ceiling), all[r].factor);
}

void PlanWatch::plan(const JobOutline& outline, const JobPolicy& policy, const Budgets& budgets,
                     const RankProfiles& profiles) {
  stages_.clear();
  const bool on_gpu = outline.device.is_cuda();
  const std::vector<Budgets> all_budgets = gather(ranks_, budgets);
  for (const auto& loaded : profiles)
    if (!has_rates(loaded, on_gpu)) return;
  for (std::size_t r = 0; r < profiles.size(); ++r) {
    StageInput& stage = stages_.emplace_back();
    stage.plan = outline.stage_input(policy, r);
    stage.budgets = all_budgets[r];
    rate_stage(stage, profiles[r]->profile, profiles[r]->share, outline.transport);
  }
  profile_ = profiles[static_cast<std::size_t>(ranks_.rank())]->profile;
  use_ = {on_gpu, policy.block.dtype, outline.transport};
  model_ = outline.model.name;
}

void PlanWatch::begin_pass(Stage& stage, std::function<void(std::int32_t)> limit_tokens) {
  if (stages_.empty() || judged_) return;
  stage_ = &stage;
  limit_tokens_ = std::move(limit_tokens);
  sweeps_.emplace(stage.tracer(), stages_.front().plan.job);
}

void PlanWatch::begin_sweep(const SweepWork& work) {
  if (!sweeps_) return;
  if (!sweeps_->are_enough()) return sweeps_->begin(work);
  // What a GPU has done is read late. To wait for it is safe where no other rank waits for this one: among several a
  // GPU is judged at the end, if no more sweeps have come by then.
  const bool is_read_late = stage_->device().is_cuda();
  if (is_read_late && ranks_.size() > 1) return sweeps_->has_room() ? sweeps_->begin(work) : sweeps_.reset();
  if (is_read_late) stage_->settle();
  judge();
}

void PlanWatch::end_sweep() {
  if (sweeps_ && ranks_.size() == 1) sweeps_->end();
}

void PlanWatch::end_pass() {
  limit_tokens_ = {};
  if (sweeps_) judge();
}

void PlanWatch::judge() {
  const SeenSweeps seen = sweeps_->take();
  sweeps_.reset();
  if (seen.each.empty()) return;
  const StageInput& stage = stages_[static_cast<std::size_t>(ranks_.rank())];
  const PlanFinding finding = check_plan(stage, seen);
  PlanCheckReport& check = judged_.emplace();
  check.rank = ranks_.rank();
  check.sweeps = finding.num_sweeps;
  check.predicted_seconds = finding.predicted_seconds;
  check.measured_seconds = finding.measured_seconds;
  check.planned_tokens = check.replanned_tokens = micro_batch_tokens(stage.plan.policy, stage.plan.job);
  if (finding.wrong) {
    check.wrong_ceiling = ceiling_name(finding.wrong->ceiling);
    check.profile_rate = finding.wrong->profile_rate;
    check.measured_rate = finding.wrong->measured_rate;
  }
  if (finding.differs()) say(check);
  if (finding.wrong && request_.machine.replan) replan(*finding.wrong);
}

// Heard of rank 0 alone, so it speaks for the others in the end.
void PlanWatch::say(const PlanCheckReport& check) const {
  const bool may_be_corrected = !check.wrong_ceiling.empty() && !request_.machine.replan;
  const std::string text = fmt::format("{}: {}{}", took(check), explanation(check),
                                       may_be_corrected ? "; --replan goes by what was measured" : "");
  if (check.measured_seconds >= seconds_worth_a_word || request_.machine.replan) log::info(text);
  else log::debug(text);
}

void PlanWatch::replan(const WrongCeiling& wrong) {
  wrong_ = wrong;
  scale_ceiling(stages_[static_cast<std::size_t>(ranks_.rank())], wrong.ceiling, wrong.factor());
  if (ranks_.local_rank() == 0) correct_own_file(wrong);
  if (limit_tokens_) choose_tokens_anew();
}

// A file that cannot be written is no reason for a job to fail.
void PlanWatch::correct_own_file(const WrongCeiling& wrong) {
  const std::string reason = fmt::format("{}: {}", model_, took(*judged_));
  try {
    judged_->correction = correct_file(request_.machine.profile, ranks_.host(), *profile_, use_, wrong, reason);
    log::info(judged_->correction);
  } catch (const UserError& error) {
    judged_->correction = error.what();
    log::warn(judged_->correction);
  }
}

// Rank 0 alone makes sweeps: what it brings from now on is what all compute.
void PlanWatch::choose_tokens_anew() {
  if (request_.policy.token_budget) return;
  PlanCheckReport& check = *judged_;
  check.replanned_tokens = choose_tokens(stages_, job_of(stages_.front().plan.job), check.planned_tokens);
  if (check.replanned_tokens == check.planned_tokens) return;
  log::info(fmt::format("replanned: {} tokens of a micro-batch in a sweep, no longer {}", check.replanned_tokens,
                        check.planned_tokens));
  limit_tokens_(check.replanned_tokens);
}

std::vector<PlanCheckReport> PlanWatch::report() {
  std::vector<PlanCheckReport> checks;
  for (PlanCheckReport& check : gather(ranks_, judged_.value_or(PlanCheckReport{}))) {
    if (check.sweeps == 0) continue;
    if (check.rank != 0 && differ(check.measured_seconds, check.predicted_seconds)) say(check);
    checks.push_back(std::move(check));
  }
  return checks;
}

}  // namespace flexgen

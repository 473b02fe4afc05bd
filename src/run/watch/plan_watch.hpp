// A job's plan beside its first sweeps, on one rank: looks at them, says where they differ from the plan, and where
// that is asked for (--replan) corrects the machine's profile and lets rank 0 bring other numbers of tokens.
//
// Each rank judges its own stage; nothing is exchanged while sweeps run. The thread that runs sweeps calls it. Refers
// to the request and the ranks.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "comm/communicator.hpp"
#include "engine/stage.hpp"
#include "job/report.hpp"
#include "run/job_request.hpp"
#include "run/planning/plan_check.hpp"
#include "run/planning/profile_correction.hpp"
#include "run/policy_choice.hpp"
#include "run/watch/first_sweeps.hpp"

namespace flexgen {

class PlanWatch {
 public:
  PlanWatch(const JobRequest& request, Communicator& ranks) : request_(request), ranks_(ranks) {}

  /// Collective, before a pass is planned. With --replan: what ranks have found in an earlier one is put right in
  /// `profiles`. Throws AgreedError (usage) where --replan has no profile to go by.
  void correct(RankProfiles& profiles, bool on_gpu);
  /// Collective, once a pass is planned. One pass is judged, the first that is long enough.
  void plan(const JobOutline& outline, const JobPolicy& policy, const Budgets& budgets, const RankProfiles& profiles);

  /// The pass runs; `limit_tokens`, rank 0's, may be told of another number, from within begin_sweep.
  void begin_pass(Stage& stage, std::function<void(std::int32_t)> limit_tokens);
  void begin_sweep(const SweepWork& work);
  void end_sweep();
  void end_pass();

  /// Collective. On rank 0 of all ranks that have judged.
  std::vector<PlanCheckReport> report();

 private:
  void judge();
  void say(const PlanCheckReport& check) const;
  void replan(const WrongCeiling& wrong);
  void correct_own_file(const WrongCeiling& wrong);
  void choose_tokens_anew();

  const JobRequest& request_;
  Communicator& ranks_;
  std::vector<StageInput> stages_;          // by rank; empty without profiles
  std::optional<HardwareProfile> profile_;  // this rank's
  RatesInUse use_;
  std::string model_;
  Stage* stage_ = nullptr;                          // while a pass runs
  std::function<void(std::int32_t)> limit_tokens_;  // likewise
  std::optional<FirstSweeps> sweeps_;               // until they are judged
  std::optional<PlanCheckReport> judged_;
  std::optional<WrongCeiling> wrong_;  // to be put right in the profiles
};

}  // namespace flexgen

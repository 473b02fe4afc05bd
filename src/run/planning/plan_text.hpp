// A plan for people: what to run, where everything lies, what takes how long, what binds, what more would bring.
#pragma once

#include <string>
#include <vector>

#include "base/fields.hpp"
#include "policy/planner/plan_report.hpp"
#include "policy/planner/what_if.hpp"

namespace flexgen {

/// A policy of the user's beside the plan.
struct ExplainedPolicy {
  std::string flags;
  std::string misfit;           // empty: it fits
  std::string nearest;          // flags of the nearest plan that fits, where it does not
  std::vector<PlannedWay> way;  // one where it fits
  static constexpr auto fields() {
    return std::tuple(field("flags", &ExplainedPolicy::flags), field("misfit", &ExplainedPolicy::misfit),
                      field("nearest", &ExplainedPolicy::nearest), field("way", &ExplainedPolicy::way));
  }
};

/// `flexgen-dist plan --report`.
struct PlanReport {
  int schema_version = 1;
  std::string program = "flexgen-dist", version;
  std::string model;
  std::int64_t rows = 0;
  double mean_prompt_tokens = 0;
  double mean_new_tokens = 0;
  std::vector<PlannedWay> ways;  // the best first
  std::vector<WhatIf> more;
  std::vector<ExplainedPolicy> explained;  // one with --explain
  std::int64_t num_tried = 0;              // sizes of a block
  double search_seconds = 0;
  static constexpr auto fields() {
    return std::tuple(field("schema_version", &PlanReport::schema_version), field("program", &PlanReport::program),
                      field("version", &PlanReport::version), field("model", &PlanReport::model),
                      field("rows", &PlanReport::rows), field("mean_prompt_tokens", &PlanReport::mean_prompt_tokens),
                      field("mean_new_tokens", &PlanReport::mean_new_tokens), field("ways", &PlanReport::ways),
                      field("more", &PlanReport::more), field("explained", &PlanReport::explained),
                      field("num_tried", &PlanReport::num_tried), field("search_seconds", &PlanReport::search_seconds));
  }
};

/// Several lines, as long as a receipt.
std::string plan_text(const PlanReport& report);

}  // namespace flexgen

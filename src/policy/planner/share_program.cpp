#include "policy/planner/share_program.hpp"

#include <algorithm>
#include <cmath>

#include "policy/planner/linear_program.hpp"

namespace flexgen {
namespace {

using Terms = std::vector<LinearProgram::Term>;

// Among equals: a stage that is not the slowest is still as fast as it can be, and nothing lies on a slower tier than
// it must. Small beside a second of the slowest stage.
constexpr double cost_of_other_stages = 1e-4;
constexpr std::array<double, num_parts> cost_of_parts{-2e-7, 4e-7, -1e-7, 2e-7, 0};

// The variables of one stage, in units of layers.
struct StageVariables {
  int layers;
  std::array<int, num_parts> parts;
  std::array<int, num_phases> phases;  // seconds
};

class Program {
 public:
  Program(std::span<const ProgramStage> stages, std::int32_t num_layers) : stages_(stages), total_(num_layers) {
    slowest_ = lp_.add_variable(0, LinearProgram::infinity, 1);
    for (const ProgramStage& stage : stages) add_stage(stage);
    Terms sum;
    for (const StageVariables& variables : variables_) sum.push_back({variables.layers, 1});
    lp_.add_row(total_, sum, total_);
  }

  std::optional<ProgramSolution> solve() const {
    const auto values = lp_.minimize();
    if (!values) return std::nullopt;
    const auto value = [&](int variable) { return (*values)[static_cast<std::size_t>(variable)]; };
    ProgramSolution solution{value(slowest_), {}};
    for (const StageVariables& variables : variables_) {
      StageShares stage;
      stage.num_layers = value(variables.layers);
      for (std::size_t i = 0; i < num_parts; ++i)
        stage.shares[i] = std::clamp(value(variables.parts[i]) / std::max(1e-9, stage.num_layers), 0.0, 1.0);
      solution.stages.push_back(stage);
    }
    return solution;
  }

 private:
  void add_stage(const ProgramStage& stage) {
    StageVariables of{};
    const double given = stage.num_layers;
    of.layers = stage.layer ? lp_.add_variable(1, total_) : lp_.add_variable(given, given);
    for (std::size_t i = 0; i < num_parts; ++i) of.parts[i] = lp_.add_variable(0, total_, cost_of_parts[i]);
    for (int& phase : of.phases) phase = lp_.add_variable(0, LinearProgram::infinity, cost_of_other_stages);
    variables_.push_back(of);
    add_parts(stage, of);
    for (std::size_t t = 0; t < num_tiers; ++t) add_budget(stage, of, t);
    for (std::size_t p = 0; p < num_phases; ++p) add_phase(stage, of, p);
    Terms sum{{slowest_, 1}};
    for (const int phase : of.phases) sum.push_back({phase, -1});
    lp_.add_row(0, sum, LinearProgram::infinity);
  }

  // Parts are of the stage's layers, each within its bounds, and those of a class no more than all.
  void add_parts(const ProgramStage& stage, const StageVariables& of) {
    for (std::size_t i = 0; i < num_parts; ++i) {
      if (stage.least[i] > 0) add(0, {{of.parts[i], 1}, {of.layers, -stage.least[i]}}, LinearProgram::infinity);
      add(-LinearProgram::infinity, {{of.parts[i], 1}, {of.layers, -stage.most[i]}}, 0);
    }
    const auto part = [&](Part one) { return of.parts[static_cast<std::size_t>(one)]; };
    add(-LinearProgram::infinity, {{part(Part::weights_gpu), 1}, {part(Part::weights_ssd), 1}, {of.layers, -1}}, 0);
    add(-LinearProgram::infinity,
        {{part(Part::cache_gpu), 1}, {part(Part::cache_ssd), 1}, {part(Part::cache_host), 1}, {of.layers, -1}}, 0);
  }

  // The line as terms, times `factor`; returns what is left of it without variables.
  static double append(const ProgramStage& stage, const StageVariables& of, const Line& line, double layer_base,
                       double factor, Terms& terms) {
    for (std::size_t i = 0; i < num_parts; ++i)
      if (line.slopes[i] != 0) terms.push_back({of.parts[i], factor * line.slopes[i] / stage.num_layers});
    if (layer_base != 0) terms.push_back({of.layers, factor * layer_base});
    return factor * (line.base - layer_base * stage.num_layers);
  }

  void add_budget(const ProgramStage& stage, const StageVariables& of, std::size_t tier) {
    Terms terms;
    const double scale = 1 / std::max(1.0, stage.budgets[tier]);
    const double layer_base = stage.layer ? stage.layer->memory[tier].base : 0;
    const double fixed = append(stage, of, stage.lines.memory[tier], layer_base, scale, terms);
    lp_.add_row(-LinearProgram::infinity, terms, stage.budgets[tier] * scale - fixed);
  }

  // A phase takes at least as long as each group of resources that take turns.
  void add_phase(const ProgramStage& stage, const StageVariables& of, std::size_t phase) {
    for (const std::vector<Ceiling>& group : stage.groups) {
      Terms terms{{of.phases[phase], 1}};
      double fixed = 0;
      for (const Ceiling ceiling : group) {
        const auto c = static_cast<std::size_t>(ceiling);
        const double layer_base = stage.layer ? stage.layer->phases[phase][c].base : 0;
        fixed += append(stage, of, stage.lines.phases[phase][c], layer_base, -1, terms);
      }
      lp_.add_row(-fixed, merged(std::move(terms)), LinearProgram::infinity);
    }
  }

  static Terms merged(Terms terms) {
    std::ranges::sort(terms, {}, &LinearProgram::Term::variable);
    Terms sums;
    for (const LinearProgram::Term& term : terms) {
      if (!sums.empty() && sums.back().variable == term.variable) sums.back().factor += term.factor;
      else sums.push_back(term);
    }
    return sums;
  }

  void add(double low, std::initializer_list<LinearProgram::Term> terms, double high) {
    lp_.add_row(low, {terms.begin(), terms.size()}, high);
  }

  std::span<const ProgramStage> stages_;
  double total_;
  LinearProgram lp_;
  int slowest_;
  std::vector<StageVariables> variables_;
};

}  // namespace

std::optional<ProgramSolution> solve_shares(std::span<const ProgramStage> stages, std::int32_t num_layers) {
  return Program(stages, num_layers).solve();
}

}  // namespace flexgen

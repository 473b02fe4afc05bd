#include "policy/planner/linear_program.hpp"

#include <ClpSimplex.hpp>
#include <CoinPackedMatrix.hpp>

namespace flexgen {
namespace {

double clp_bound(double bound) {
  if (bound >= LinearProgram::infinity) return COIN_DBL_MAX;
  return bound <= -LinearProgram::infinity ? -COIN_DBL_MAX : bound;
}

template <class Bounds>
std::vector<double> lows(const std::vector<Bounds>& all) {
  std::vector<double> values;
  values.reserve(all.size());
  for (const Bounds& one : all) values.push_back(clp_bound(one.low));
  return values;
}

template <class Bounds>
std::vector<double> highs(const std::vector<Bounds>& all) {
  std::vector<double> values;
  values.reserve(all.size());
  for (const Bounds& one : all) values.push_back(clp_bound(one.high));
  return values;
}

}  // namespace

int LinearProgram::add_variable(double low, double high, double cost) {
  variables_.push_back({low, high});
  costs_.push_back(cost);
  return static_cast<int>(variables_.size()) - 1;
}

void LinearProgram::add_row(double low, std::span<const Term> terms, double high) {
  for (const Term& term : terms) {
    term_variables_.push_back(term.variable);
    term_factors_.push_back(term.factor);
  }
  row_begins_.push_back(static_cast<int>(term_variables_.size()));
  rows_.push_back({low, high});
}

std::optional<std::vector<double>> LinearProgram::minimize() const {
  const CoinPackedMatrix matrix(false, static_cast<int>(variables_.size()), static_cast<int>(rows_.size()),
                                static_cast<int>(term_factors_.size()), term_factors_.data(), term_variables_.data(),
                                row_begins_.data(), nullptr);
  ClpSimplex simplex;
  simplex.setLogLevel(0);
  simplex.loadProblem(matrix, lows(variables_).data(), highs(variables_).data(), costs_.data(), lows(rows_).data(),
                      highs(rows_).data());
  simplex.dual();
  if (!simplex.isProvenOptimal()) return std::nullopt;
  const double* values = simplex.primalColumnSolution();
  return std::vector<double>(values, values + variables_.size());
}

}  // namespace flexgen

// A linear programme: the least sum of bounded variables, each times its cost, under bounds on other sums of them.
//
// Solved by the simplex method of CLP (COIN-OR), whose headers are seen in linear_program.cpp alone. Deterministic. One
// object belongs to one thread.
#pragma once

#include <limits>
#include <optional>
#include <span>
#include <vector>

namespace flexgen {

class LinearProgram {
 public:
  static constexpr double infinity = std::numeric_limits<double>::max();

  struct Term {
    int variable;
    double factor;
  };

  /// Returns the number of a variable that lies in [low, high].
  int add_variable(double low, double high, double cost = 0);
  /// low <= sum of the terms <= high. A variable may occur once.
  void add_row(double low, std::span<const Term> terms, double high);

  /// The variables' values, by number; none where no values keep all bounds.
  std::optional<std::vector<double>> minimize() const;

 private:
  struct Bounds {
    double low;
    double high;
  };
  std::vector<Bounds> variables_;
  std::vector<double> costs_;
  std::vector<Bounds> rows_;
  std::vector<int> row_begins_{0};  // in the two that follow, a row after another
  std::vector<int> term_variables_;
  std::vector<double> term_factors_;
};

}  // namespace flexgen

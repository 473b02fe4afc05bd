// The options of jobs over rows that say what an input's rows mean, as rows of a table.
#pragma once

#include <vector>

#include "app/option_table.hpp"
#include "app/options.hpp"

namespace flexgen {

/// Of an input: what its form is, and what becomes of its fields.
std::vector<OptionRow> input_rows(RowOptions& rows);
/// What results have of their rows, and how many of those may fail.
std::vector<OptionRow> row_rule_rows(RowOptions& rows);

}  // namespace flexgen

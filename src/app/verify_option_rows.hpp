// The options of what `verify` verifies by, as rows of a table.
#pragma once

#include <vector>

#include "app/option_table.hpp"
#include "app/options.hpp"

namespace flexgen {

std::vector<OptionRow> verify_rows(Options& o);

/// Once all is read. Throws UserError (usage): what is missing, or cannot be honoured.
void check_verify(const Options& o);

}  // namespace flexgen

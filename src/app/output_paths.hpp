// Whether what is written at the end of a job can be written, looked at before the job starts.
#pragma once

#include <string>

#include "app/options.hpp"

namespace flexgen {

/// --report and --trace. Throws UserError (file). Looks only: a disk may still be full at the end.
void check_output_paths(const Options& options);

/// Throws UserError (usage) when `input`, given by `option`, is also the output.
void check_distinct(const char* option, const std::string& input, const std::string& output);

}  // namespace flexgen

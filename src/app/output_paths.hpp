// Whether what is written at the end of a job can be written, looked at before the job starts.
#pragma once

#include "app/options.hpp"

namespace flexgen {

/// --report and --trace. Throws UserError (file). Looks only: a disk may still be full at the end.
void check_output_paths(const Options& options);

}  // namespace flexgen

// Whether a job may write what it is to write, looked at before anything is read or touched.
#pragma once

#include "app/options.hpp"

namespace flexgen {

/// Of all files and folders that the options name: none that is written may be another one that is read or written,
/// nor one of the model's, be it under another name or through links; folders of new files must exist; figures replace
/// figures alone. Throws UserError: usage for files that are the same, else file. Looks only: the output file itself
/// is taken by ResultWriter, and a disk may still be full at the end.
void check_output_paths(const Options& options);

}  // namespace flexgen

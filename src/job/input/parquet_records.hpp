// Rows of a Parquet file: every column is a field, whose value is that of Arrow's own JSON form.
//
// Private to the room. Reads a batch of rows at a time. Without Arrow (FLEXGEN_ARROW) a file is refused, and it is said
// how to turn it into JSONL.
#pragma once

#include <memory>
#include <string>

#include "job/input/record_source.hpp"

namespace flexgen {

/// Throws UserError (file).
std::unique_ptr<RecordSource> open_parquet(const std::string& path);

}  // namespace flexgen

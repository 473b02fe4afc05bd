// Rows of a Parquet file: every column is a field, and means what it would in a line of JSON.
//
// A few rows are read at a time, whatever the size of its row groups. The end of the file is read first: one that was
// cut is refused when it is opened. A row group that turns out to be damaged costs its own rows, each of which is an
// error. In columns that requests read, whole floats are integers (max_tokens with gaps, of a table program), and a
// custom_id may be a number. Rows are counted from 1, as lines are.
//
// Private to the room. Without Arrow (FLEXGEN_ARROW) every file is refused, and it is said how to read it all the same.
#pragma once

#include <memory>
#include <string>

#include "job/input/record_source.hpp"

namespace flexgen {

/// Throws UserError (file), InputFault.
/// @param max_record_bytes  a row with more is an error
std::unique_ptr<RecordSource> open_parquet(const std::string& path, std::size_t max_record_bytes);

}  // namespace flexgen

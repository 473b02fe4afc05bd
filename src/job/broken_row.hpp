// What can still be told of a row that is not JSON: whose result its error is.
//
// Pure function. An id is taken from the row's own outermost object alone, and only where nothing casts doubt on it;
// what merely looks like one, inside a text or behind the fault, never is.
#pragma once

#include <string_view>

#include "job/request.hpp"

namespace flexgen {

/// Puts the custom_id and the form of the row into `row`, as far as the line tells them.
/// @param line  a whole line that cannot be parsed, or the beginning of one
void identify_broken_row(std::string_view line, RowIdentity& row);

}  // namespace flexgen

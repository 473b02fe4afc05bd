// Input files that hold no rows, known by their beginning: packed (twice, or as we do not unpack it), of another
// encoding, of another form.
//
// Pure function. A file counts as rows where any line of its beginning is a JSON object: bad lines are errors of their
// own.
#pragma once

#include <optional>
#include <string>
#include <string_view>

namespace flexgen {

struct WrongKind {
  std::string what;    // "it is a gzip file"
  std::string remedy;  // "Unpack it first: gzip -d"
};

/// What no text can be: a file of another program, a wider encoding.
/// @param head  its first bytes, without a UTF-8 byte-order mark
std::optional<WrongKind> find_foreign_kind(std::string_view head);

/// Nothing where the file holds rows, is empty, or where its beginning does not tell.
/// @param head      its first bytes, without a UTF-8 byte-order mark
/// @param is_whole  that is all of it
std::optional<WrongKind> find_wrong_kind(std::string_view head, bool is_whole);

}  // namespace flexgen

// JSON text that is not sound, or not known to be: what its outermost object holds, and escapes that stand for nothing.
//
// Pure functions. An outline is laxer than a parser: it takes any bytes in strings, bare words, and a comma before a
// closing bracket; it never guesses where a string ends.
#pragma once

#include <cstddef>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace flexgen {

struct JsonOutline {
  enum class End {
    complete,  // the value ends at end_at
    cut,       // the text ends within the value
    broken     // what stands at end_at cannot follow
  };
  struct Member {
    std::string_view key;    // as written, in its quotes
    std::string_view value;  // as written; of a value that has not ended, what there is
    bool is_whole = false;   // the value has ended, and what follows it may follow it
  };

  End end = End::cut;
  std::size_t end_at = 0;
  std::vector<Member> members;  // of the outermost object; views of the text
};

/// Looks at the first value of `text`.
JsonOutline outline_json(std::string_view text);

/// `text` with U+FFFD for every escaped surrogate without its other half, as programs write that cut a text inside a
/// character; nothing where there is none.
std::optional<std::string> replace_lone_surrogates(std::string_view text);

}  // namespace flexgen

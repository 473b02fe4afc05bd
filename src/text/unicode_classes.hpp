// The character classes of the GPT-2 pattern, pinned to one version of Unicode (16.0).
//
// Constant data. The classes of the regular-expression library at hand depend on its age (PCRE2 10.42 knows Unicode
// 14), and its \s has U+180E, which the reference lacks; token ids must not depend on either. Written by
// `tests/data/make_tokenizer_reference.py --classes`, which asks the reference tokenizer about every code point.
#pragma once

#include <span>

namespace flexgen {

struct CodePointRange {
  char32_t first;
  char32_t last;  // inclusive
};

std::span<const CodePointRange> letter_ranges();      // \p{L}
std::span<const CodePointRange> number_ranges();      // \p{N}
std::span<const CodePointRange> whitespace_ranges();  // \s

}  // namespace flexgen

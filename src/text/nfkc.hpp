// Unicode's normalization form NFKC, as Hugging Face tokenizers apply it (the normalizer of Galactica's
// tokenizer.json).
//
// Pure functions; the tables are generated, constant, and unpacked at the first use (thread-safe).
// Source: Unicode Standard Annex 15: decompose, order the marks, compose.
#pragma once

#include <string>
#include <string_view>

namespace flexgen {

/// `utf8` must be well-formed.
std::string to_nfkc(std::string_view utf8);

namespace unicode {

/// Full compatibility decompositions, but those of Hangul, as text: ";A0=20|..." a code point and its characters,
/// after "|" those of the next code point, ";FF01+5E=21" a run of so many neighbours. Hexadecimal.
std::string_view decompositions();
/// ";E6=300+15 33D+8 ": a combining class and the runs of its marks.
std::string_view combining_classes();
/// ";41 300 C0": two characters and the one that they compose.
std::string_view composed_pairs();

}  // namespace unicode
}  // namespace flexgen

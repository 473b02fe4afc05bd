// Cuts text into words as a tokenizer's files say: pieces by rules of their own first, then the GPT-2 pattern.
//
// Immutable and thread-safe. Source: the pre-tokenizers Split, Digits and ByteLevel of Hugging Face tokenizers, in the
// order in which a tokenizer.json lists them (Galactica's: a marker that is removed, single digits, runs of one
// punctuation character, line ends, ByteLevel).
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "text/pre_tokenizer.hpp"

namespace flexgen {

/// Where a piece is cut in parts.
struct SplitRule {
  enum class Kind { text, pattern, each_digit, digits };
  Kind kind = Kind::text;
  std::string match;        // of a text or a pattern
  bool is_removed = false;  // what matches is left out; else it is a part of its own
};

struct WordRules {
  std::vector<SplitRule> splits;
  bool add_prefix_space = false;  // to pieces that do not begin with one
  bool use_pattern = true;        // cut by the GPT-2 pattern; else a piece is a word
};

/// Whether a pattern means the same in every library: characters, classes of characters, groups, alternatives,
/// repetitions, and references to groups; nothing whose meaning depends on a version of Unicode or on a dialect.
bool is_portable_pattern(std::string_view pattern);

class WordSplitter {
 public:
  /// Patterns must be portable. Throws UserError (model) for one that is malformed.
  explicit WordSplitter(WordRules rules);
  WordSplitter(WordSplitter&&) noexcept;
  WordSplitter& operator=(WordSplitter&&) noexcept;
  ~WordSplitter();

  /// Calls `on_word` with each word of `text`, in order. `text` must be well-formed UTF-8.
  void for_each_word(std::string_view text, const std::function<void(std::string_view)>& on_word) const;

 private:
  class Rule;

  WordRules rules_;
  std::vector<std::unique_ptr<const Rule>> compiled_;
  PreTokenizer pre_tokenizer_;
};

}  // namespace flexgen

// Cuts text into the words within which byte pairs may merge (the GPT-2 pattern).
//
// Immutable and thread-safe; owns a compiled PCRE2 pattern. Every byte of the text is in exactly one word.
// Pattern: 's|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+
#pragma once

#include <functional>
#include <memory>
#include <string_view>

struct pcre2_real_code_8;

namespace flexgen {

class PreTokenizer {
 public:
  /// @param use_jit false: interpret the pattern (also what happens where the system refuses executable memory)
  explicit PreTokenizer(bool use_jit = true);

  /// Calls `on_word` with each word of `text`, in order. `text` must be well-formed UTF-8.
  void for_each_word(std::string_view text, const std::function<void(std::string_view)>& on_word) const;

  bool uses_jit() const { return uses_jit_; }

 private:
  struct FreeCode {
    void operator()(pcre2_real_code_8* code) const;
  };
  std::unique_ptr<pcre2_real_code_8, FreeCode> code_;
  bool uses_jit_ = false;
};

/// True for the white space of the pattern.
bool is_whitespace(char32_t code_point);

}  // namespace flexgen

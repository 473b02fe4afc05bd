// Text <-> token ids for OPT and GPT-2 models: byte-level byte-pair encoding, from a model folder's files.
//
// A Tokenizer is immutable after construction and thread-safe. A StreamingDecoder belongs to one row and refers to
// its Tokenizer, which must outlive it. Ids equal those of Hugging Face transformers' GPT2Tokenizer.
// Source: Radford et al. 2019 (GPT-2), Zhang et al. 2022 (OPT: "</s>" first).
#pragma once

#include <cstdint>
#include <filesystem>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "text/added_tokens.hpp"
#include "text/bpe.hpp"
#include "text/tokenizer_files.hpp"
#include "text/utf8.hpp"
#include "text/word_splitter.hpp"

namespace flexgen {

class Tokenizer {
 public:
  /// Reads tokenizer.json, or vocab.json and merges.txt, and where present tokenizer_config.json,
  /// special_tokens_map.json and added_tokens.json. Throws UserError(model) naming the file, why, and what to do.
  static Tokenizer from_directory(const std::filesystem::path& model_dir);

  explicit Tokenizer(const TokenizerFiles& files);

  /// The tokenizer of a folder that has none: it refuses every text as an error of its row, and decodes to nothing.
  static Tokenizer none();
  bool is_none() const { return is_none_; }

  /// Ids of a text, as the model's own tokenizer gives them.
  /// @param add_special put the beginning-of-sequence token first (and the end token last) where the tokenizer's
  ///        configuration says so; tokens such as "</s>" standing literally in the text count in either case
  /// Throws UserError(rows_failed) when the text is not UTF-8, or there is no tokenizer.
  std::vector<std::int32_t> encode(std::string_view utf8, bool add_special = true) const;

  /// Text of ids, always well-formed: bytes that are not UTF-8 become U+FFFD. Unknown ids (negative, or
  /// >= vocab_size()) give nothing.
  std::string decode(std::span<const std::int32_t> ids, bool skip_special = true) const;

  /// The bytes of one token, perhaps part of a character; "" for an unknown id.
  std::string token_bytes(std::int32_t id) const { return std::string(bytes_of(id)); }
  std::string_view bytes_of(std::int32_t id) const;  // the same, as a view that lives as long as the tokenizer
  bool is_special(std::int32_t id) const;

  /// One more than the highest id (OPT: 50265; the model's own table may have more rows).
  int vocab_size() const { return static_cast<int>(token_bytes_.size()); }
  std::int32_t bos_id() const { return bos_id_; }                     // -1: there is none
  std::int64_t num_begin_ids() const { return std::ssize(before_); }  // those that encode puts first
  std::int32_t eos_id() const { return eos_id_; }
  std::int32_t pad_id() const { return pad_id_; }

 private:
  std::vector<std::string> token_bytes_;  // by id
  std::vector<bool> special_;             // by id
  WordSplitter splitter_;
  Bpe bpe_;
  AddedTokenSplitter added_;
  AddedTokenSplitter added_normalized_;
  std::int32_t bos_id_;
  std::int32_t eos_id_;
  std::int32_t pad_id_;
  std::vector<std::int32_t> before_;
  std::vector<std::int32_t> after_;
  bool normalizes_;
  bool is_none_ = false;
};

/// Decodes one row token by token; joined, the pieces equal Tokenizer::decode of all ids. A character that is not
/// complete yet is held back.
class StreamingDecoder {
 public:
  explicit StreamingDecoder(const Tokenizer& tokenizer, bool skip_special = true)
      : tokenizer_(&tokenizer), skip_special_(skip_special) {}

  /// Text that has become certain with this token; may be empty.
  std::string push(std::int32_t id);
  /// What is left at the end of the row: "" or U+FFFD.
  std::string finish();

 private:
  const Tokenizer* tokenizer_;
  bool skip_special_;
  Utf8Repairer repairer_;
};

}  // namespace flexgen

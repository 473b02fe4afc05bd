// Reads tokenizer.json, the file that holds a whole tokenizer.
//
// Internal to the reader of a model's tokenizer files. Source: the serialization of Hugging Face tokenizers: model BPE
// over ByteLevel, alone or behind the splits that Galactica uses. What is of another kind is refused by its name.
#pragma once

#include <array>
#include <cstdint>
#include <filesystem>
#include <optional>
#include <vector>

#include "text/added_tokens.hpp"
#include "text/bpe.hpp"
#include "text/tokenizer_parts.hpp"
#include "text/word_splitter.hpp"

namespace flexgen::tokenizer {

struct TokenizerJson {
  Vocabulary vocabulary;
  std::vector<Merge> merges;
  std::optional<std::int32_t> unknown;  // the token of a byte that has none
  bool fuses_unknown = false;           // a run of such bytes is one token
  std::vector<AddedToken> added;        // in the file's order; ids are the vocabulary's or the next free ones
  WordRules words;
  bool normalizes = false;           // to Unicode's form NFKC, before anything but added tokens is looked for
  std::vector<std::int32_t> before;  // tokens that the file puts before a text, and after it
  std::vector<std::int32_t> after;
};

/// Throws UserError (model).
TokenizerJson read_tokenizer_json(const std::filesystem::path& file);

}  // namespace flexgen::tokenizer

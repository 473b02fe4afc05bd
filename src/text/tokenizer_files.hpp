// Reads the tokenizer files of a Hugging Face model directory into plain data.
//
// Source: the vocab.json / merges.txt pair of GPT-2, with tokenizer_config.json, special_tokens_map.json and
// added_tokens.json as transformers reads them for GPT2Tokenizer (the tokenizer of OPT):
//   - a name (bos_token, ...) in special_tokens_map.json wins over tokenizer_config.json, unless the latter has an
//     `added_tokens_decoder`: then special_tokens_map.json and added_tokens.json are not read;
//   - tokens without an id get the ids after the last.
// Where there is a tokenizer.json, vocabulary, merges, added tokens and what stands around a text come from it,
// whatever else is there (transformers 5); its own words and normalizer count where tokenizer_class is not
// GPT2Tokenizer. Its added tokens do not count for a GPT2Tokenizer with an `added_tokens_decoder`. Two defaults serve
// OPT: where no file names a token, "</s>" and "<pad>" are taken if the vocabulary has them (else GPT-2's
// "<|endoftext|>"); where add_bos_token is not given, it is true if the begin token is "</s>".
#pragma once

#include <array>
#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

#include "text/added_tokens.hpp"
#include "text/bpe.hpp"
#include "text/word_splitter.hpp"

namespace flexgen {

struct TokenizerFiles {
  std::vector<std::string> tokens;           // by id, as written in the vocabulary; "" where an id is not used
  std::array<std::int32_t, 256> byte_ids{};  // token of each single byte; -1: there is none
  std::vector<Merge> merges;                 // by falling priority
  std::vector<AddedToken> added;
  std::int32_t bos_id = -1;  // -1: the tokenizer has none
  std::int32_t eos_id = -1;
  std::int32_t pad_id = -1;
  std::vector<std::int32_t> before;  // put before a text, and after it
  std::vector<std::int32_t> after;
  WordRules words;
  bool normalizes = false;   // text is brought to Unicode's form NFKC
  std::int32_t unk_id = -1;  // of bytes without a token; -1: they are left out
  bool fuses_unk = false;    // a run of such bytes is one token
};

/// Whether the folder has any tokenizer file at all: a model without can run rows of token ids.
bool has_tokenizer_files(const std::filesystem::path& model_dir);

/// Throws UserError(model) naming file and place: a file is missing or malformed, or the tokenizer is of another kind.
TokenizerFiles read_tokenizer_files(const std::filesystem::path& model_dir);

}  // namespace flexgen

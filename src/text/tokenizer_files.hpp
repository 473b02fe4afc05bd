// Reads the tokenizer files of a Hugging Face model directory into plain data.
//
// Source: the vocab.json / merges.txt pair of GPT-2, with tokenizer_config.json, special_tokens_map.json and
// added_tokens.json as transformers reads them for GPT2Tokenizer (the tokenizer of OPT):
//   - a name (bos_token, ...) in special_tokens_map.json wins over tokenizer_config.json, unless the latter has an
//     `added_tokens_decoder`: then special_tokens_map.json and added_tokens.json are not read;
//   - tokens without an id get the ids after the last.
// Two defaults serve OPT: where no file names a token, "</s>" and "<pad>" are taken if the vocabulary has them (else
// GPT-2's "<|endoftext|>"); where add_bos_token is not given, it is true if the begin token is "</s>".
#pragma once

#include <array>
#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

#include "text/added_tokens.hpp"
#include "text/bpe.hpp"

namespace flexgen {

struct TokenizerFiles {
  std::vector<std::string> tokens;           // by id, as written in the vocabulary; "" where an id is not used
  std::array<std::int32_t, 256> byte_ids{};  // token of each single byte
  std::vector<Merge> merges;                 // by falling priority
  std::vector<AddedToken> added;
  std::int32_t bos_id = -1;  // -1: the tokenizer has none
  std::int32_t eos_id = -1;
  std::int32_t pad_id = -1;
  bool add_bos = false;
  bool add_eos = false;
  bool add_prefix_space = false;
};

/// Throws UserError(model) naming file and place: a file is missing or malformed, or the tokenizer is of another kind.
TokenizerFiles read_tokenizer_files(const std::filesystem::path& model_dir);

}  // namespace flexgen

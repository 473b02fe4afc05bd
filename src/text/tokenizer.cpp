#include "text/tokenizer.hpp"

#include <fmt/core.h>

#include "base/error.hpp"
#include "text/byte_alphabet.hpp"
#include "text/nfkc.hpp"

namespace flexgen {
namespace {

// Those that are looked for in the text as it stands, or in what normalization makes of the rest.
std::vector<AddedToken> added_tokens(const TokenizerFiles& files, bool normalized) {
  std::vector<AddedToken> chosen;
  for (const AddedToken& token : files.added) {
    if (token.normalized != normalized) continue;
    chosen.push_back(token);
    if (normalized && files.normalizes) chosen.back().content = to_nfkc(token.content);
  }
  return chosen;
}

}  // namespace

Tokenizer Tokenizer::from_directory(const std::filesystem::path& model_dir) {
  return Tokenizer(read_tokenizer_files(model_dir));
}

Tokenizer::Tokenizer(const TokenizerFiles& files)
    : special_(files.tokens.size(), false),
      splitter_(files.words),
      bpe_(files.byte_ids, files.merges, files.unk_id, files.fuses_unk),
      added_(added_tokens(files, false)),
      added_normalized_(added_tokens(files, true)),
      bos_id_(files.bos_id),
      eos_id_(files.eos_id),
      pad_id_(files.pad_id),
      before_(files.before),
      after_(files.after),
      normalizes_(files.normalizes) {
  token_bytes_.reserve(files.tokens.size());
  for (const std::string& token : files.tokens) {
    // A token with characters from outside the byte alphabet (an added one) stands for itself.
    token_bytes_.push_back(bytes_of_symbols(token).value_or(token));
  }
  for (const AddedToken& token : files.added) {
    if (token.special) special_.at(token.id) = true;
  }
}

Tokenizer Tokenizer::none() {
  TokenizerFiles files;
  files.byte_ids.fill(-1);
  Tokenizer tokenizer(files);
  tokenizer.is_none_ = true;
  return tokenizer;
}

std::vector<std::int32_t> Tokenizer::encode(std::string_view utf8, bool add_special) const {
  if (is_none_)
    throw UserError(
        ExitCode::rows_failed, "cannot tokenize a text", "the model's folder has no tokenizer files",
        "Give token ids, or put tokenizer.json, or vocab.json and merges.txt, of the model into its folder");
  if (const auto invalid = first_invalid_utf8(utf8)) {
    throw UserError(ExitCode::rows_failed, "cannot tokenize a text",
                    fmt::format("byte {} (0x{:02X}) is not part of valid UTF-8", *invalid,
                                static_cast<unsigned char>(utf8[*invalid])),
                    "convert the text to UTF-8");
  }
  std::vector<std::int32_t> ids;
  if (add_special) ids = before_;
  const auto encode_word = [&](std::string_view word) { bpe_.encode_word(word, ids); };
  for (const AddedTokenSplitter::Piece& piece : added_.split(utf8)) {
    if (piece.id >= 0) {
      ids.push_back(piece.id);
      continue;
    }
    const std::string normal = normalizes_ ? to_nfkc(piece.text) : std::string();
    for (const auto& part : added_normalized_.split(normalizes_ ? normal : piece.text)) {
      if (part.id >= 0) ids.push_back(part.id);
      else splitter_.for_each_word(part.text, encode_word);
    }
  }
  if (add_special) ids.insert(ids.end(), after_.begin(), after_.end());
  return ids;
}

std::string Tokenizer::decode(std::span<const std::int32_t> ids, bool skip_special) const {
  StreamingDecoder decoder(*this, skip_special);
  std::string text;
  for (std::int32_t id : ids) text += decoder.push(id);
  text += decoder.finish();
  return text;
}

std::string_view Tokenizer::bytes_of(std::int32_t id) const {
  return id < 0 || id >= vocab_size() ? std::string_view() : std::string_view(token_bytes_[id]);
}

bool Tokenizer::is_special(std::int32_t id) const { return id >= 0 && id < vocab_size() && special_[id]; }

}  // namespace flexgen

#include "run/model/model_text.hpp"

#include <fmt/core.h>

#include <cerrno>
#include <fstream>
#include <iterator>

#include "base/error.hpp"
#include "text/pre_tokenizer.hpp"
#include "text/utf8.hpp"

namespace flexgen {
namespace {

// Python's str.split() takes these separators for white space, too.
bool is_gap_character(char32_t code_point) {
  return is_whitespace(code_point) || (code_point >= 0x1C && code_point <= 0x1F);
}

}  // namespace

Tokenizer open_tokenizer(const std::filesystem::path& directory, const ModelSpec& model) {
  if (!has_tokenizer_files(directory)) return Tokenizer::none();
  Tokenizer tokenizer = Tokenizer::from_directory(directory);
  if (tokenizer.vocab_size() > model.vocab)
    throw UserError(
        ExitCode::model, "tokenizer and model do not belong together",
        fmt::format("the tokenizer names id {}, the model has {} tokens", tokenizer.vocab_size() - 1, model.vocab),
        "Use the tokenizer files of the same model");
  return tokenizer;
}

std::vector<std::int32_t> prompt_ids(const Tokenizer& tokenizer, const ModelSpec& model, const Prompt& prompt) {
  if (const auto* text = std::get_if<std::string>(&prompt)) {
    std::vector<std::int32_t> ids = tokenizer.encode(*text);
    if (ids.empty())
      throw UserError(ExitCode::rows_failed, "the prompt has no tokens", "it is empty", "Give some text");
    return ids;
  }
  const auto& ids = std::get<std::vector<std::int32_t>>(prompt);
  for (const std::int32_t id : ids)
    if (id < 0 || id >= model.vocab)
      throw UserError(ExitCode::rows_failed, fmt::format("token id {} cannot be run", id),
                      fmt::format("the model's vocabulary has {} entries", model.vocab),
                      "Use the model's own tokenizer");
  return ids;
}

std::string read_text(const std::filesystem::path& path) {
  constexpr std::string_view byte_order_mark = "\xEF\xBB\xBF";
  const auto fail = [&](const std::string& why) {
    throw UserError(ExitCode::file, fmt::format("cannot read the text '{}'", path.string()), why,
                    "Give a file of UTF-8 text");
  };
  std::error_code ignored;
  if (std::filesystem::is_directory(path, ignored)) fail("it is a folder");
  errno = 0;
  std::ifstream file(path, std::ios::binary);
  if (!file) fail(errno_text(errno));
  std::string text((std::istreambuf_iterator<char>(file)), {});
  if (file.bad()) fail(errno_text(errno));
  if (text.starts_with(byte_order_mark)) text.erase(0, byte_order_mark.size());
  if (const auto at = first_invalid_utf8(text)) fail(fmt::format("byte {} is not UTF-8", *at + 1));
  return text;
}

std::string collapse_whitespace(std::string_view text) {
  std::string collapsed;
  collapsed.reserve(text.size());
  bool is_gap = false;
  while (!text.empty()) {
    const std::string_view before = text;
    const char32_t code_point = take_code_point(text);
    if (is_gap_character(code_point)) {
      is_gap = true;
      continue;
    }
    if (is_gap && !collapsed.empty()) collapsed += ' ';
    is_gap = false;
    collapsed += before.substr(0, before.size() - text.size());
  }
  return collapsed;
}

}  // namespace flexgen

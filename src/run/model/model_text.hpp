// What the commands that read text share: the model's tokenizer, a prompt's ids, a file of plain text.
//
// Free functions; all throw UserError with what, why and what to do.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <string_view>
#include <vector>

#include "job/request.hpp"
#include "spec/model_spec.hpp"
#include "text/tokenizer.hpp"

namespace flexgen {

/// The tokenizer of a model folder; Tokenizer::none() where the folder has no tokenizer files. Throws (model) when it
/// knows more tokens than the model.
Tokenizer open_tokenizer(const std::filesystem::path& directory, const ModelSpec& model);

/// Ids of a row's prompt: text is encoded, ids are checked against the vocabulary. Throws (rows_failed).
std::vector<std::int32_t> prompt_ids(const Tokenizer& tokenizer, const ModelSpec& model, const Prompt& prompt);

/// A whole file of UTF-8 text, without a byte-order mark. Throws (file).
std::string read_text(const std::filesystem::path& path);

/// Every run of white space becomes one space, none is left at the ends. `text` is well-formed UTF-8.
std::string collapse_whitespace(std::string_view text);

}  // namespace flexgen

// What a model folder's generation_config.json asks for: the ids that end a row, and wishes that nothing honours.
//
// Plain data. Source: GenerationConfig of Hugging Face transformers. Where the file is there it decides alone, as in
// transformers: the end ids of config.json do not count beside it.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace flexgen {

struct GenerationConfig {
  std::vector<std::int32_t> eos_tokens = {2};  // any of them ends a row; none: rows end otherwise
  std::vector<std::string> not_done;           // "repetition_penalty 1.2": wishes that change tokens
};

/// A config.json stands in for a generation_config.json that is not there; of its members only those count that both
/// may have, and without an `eos_token_id` the end is the family's.
enum class ConfigKind : std::uint8_t { generation, model };

/// Members that change no token of a greedy choice, and values that change nothing, are passed over; a member of a
/// generation_config.json that is not known is a wish. Throws UserError (model) naming `where`.
GenerationConfig parse_generation_config(std::string_view text, const std::string& where, ConfigKind kind);

/// Whether a member of a config.json belongs to generation.
bool is_generation_member(std::string_view name);

/// A member in a message: its name and its value, cut where that is long.
std::string describe_member(std::string_view name, const std::string& value);

}  // namespace flexgen

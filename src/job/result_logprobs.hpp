// The `logprobs` object of a choice, in the form of OpenAI's completions.
//
// Private to the room (its header shows the JSON library). Thread-safe: pure functions.
#pragma once

#include <nlohmann/json.hpp>
#include <string>
#include <string_view>
#include <vector>

#include "job/result.hpp"

namespace flexgen {

/// A log-probability as results hold it: rounded to 7 decimals, so that a number reads the same wherever it stands.
double printed_logprob(double log_probability);

/// A token as text; "bytes:\xe2\x80" (with backslashes) where its bytes alone are no UTF-8.
std::string token_text(std::string_view bytes);

/// {"tokens","token_logprobs","top_logprobs","text_offset"}, lists of one length.
nlohmann::ordered_json logprobs_json(const std::vector<ChoiceToken>& tokens);

}  // namespace flexgen

// The fields of a request body: which are read, which are only checked, which are refused.
//
// Private to the room (its header shows the JSON library). Thread-safe: pure functions.
// Source: OpenAI /v1/completions and vLLM's additions to it.
#pragma once

#include <nlohmann/json.hpp>
#include <stdexcept>
#include <string>
#include <string_view>
#include <vector>

#include "job/request.hpp"

namespace flexgen {

/// Why a row cannot run; caught in parse_request.
struct RowProblem : std::runtime_error {
  RowProblem(std::string code_, const std::string& message) : std::runtime_error(message), code(std::move(code_)) {}
  std::string code;
};

/// "a list", "the string \"abc\"", "the number 0.5": for messages, never long.
std::string describe(const nlohmann::json& value);
/// At most `max_bytes` of valid UTF-8, "..." behind what was cut.
std::string shorten(std::string text, std::size_t max_bytes);

/// True for every name that means something to an OpenAI-compatible server.
bool is_request_field(std::string_view name);

/// Refuses fields that cannot be honoured; with `refuse_unknown` (batch bodies) unknown names too. Throws RowProblem.
void check_fields(const nlohmann::json& body, bool refuse_unknown);

/// Names in the body of a plain row that neither ask for anything nor are its id; `is_scored`: "text" is read.
std::vector<std::string> unread_fields(const nlohmann::json& body, bool is_scored);

/// Reads prompt, max_tokens, stop and model into `request`. Throws RowProblem.
void read_fields(const nlohmann::json& body, const RequestDefaults& defaults, Request& request);

}  // namespace flexgen

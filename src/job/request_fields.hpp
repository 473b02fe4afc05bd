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

/// Names in the body of a plain row that neither ask for anything nor are its id, nor are wanted by `defaults`.
std::vector<std::string> unread_fields(const nlohmann::json& body, const RequestDefaults& defaults);

/// A row whose JSON is sound. Never throws for what stands in it.
/// @param document  an object
/// @param row       its form, its place, and who it is where it does not say
ParsedRow read_request(nlohmann::json document, RowIdentity row, const RequestDefaults& defaults);

/// Reads all fields of a completion into `request`, whose identity stands already. Throws RowProblem.
void read_fields(const nlohmann::json& body, const RequestDefaults& defaults, Request& request);
/// Of these, those that read_fields leaves to request_sampling.cpp: the others have been read.
void read_sampling(const nlohmann::json& body, bool is_scored, Request& request);

/// Throws RowProblem for what asks for an answer where texts are scored.
void refuse_what_scoring_does_not(const Request& request);

// What the sources of these have in common.

/// Whether `choices` asks for an answer that is one of them. Else it is, in a plain row, the user's own.
bool asks_for_choice(const nlohmann::json& choices, bool batch_format);

/// The field's value; null when it is absent.
const nlohmann::json* find_set(const nlohmann::json& body, const char* name);
/// Throws RowProblem unless it is an integer in least .. most.
std::int32_t read_integer(const nlohmann::json& value, const std::string& name, std::int32_t least, std::int32_t most);
/// Of a list, which may be empty. Throws RowProblem.
std::vector<std::int32_t> read_token_ids(const nlohmann::json& list, const std::string& where);

[[noreturn]] void fail_type(std::string_view field, std::string_view expected, const nlohmann::json& got);
[[noreturn]] void fail_range(std::string_view field, const nlohmann::json& got, std::string_view limits);
[[noreturn]] void refuse_field(std::string_view name);

}  // namespace flexgen

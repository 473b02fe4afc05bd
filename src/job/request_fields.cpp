#include "job/request_fields.hpp"

#include <fmt/core.h>

#include <algorithm>
#include <array>
#include <limits>

namespace flexgen {
namespace {

using Json = nlohmann::json;

constexpr std::size_t max_stop_strings = 16;

using Test = bool (*)(const Json&);

bool is_number(const Json& value) { return value.is_number(); }
bool is_integer(const Json& value) { return value.is_number_integer(); }
bool is_boolean(const Json& value) { return value.is_boolean(); }
bool is_string(const Json& value) { return value.is_string(); }
bool is_object(const Json& value) { return value.is_object(); }
bool is_integer_or_boolean(const Json& value) { return value.is_number_integer() || value.is_boolean(); }
bool any(const Json&) { return true; }
bool is_zero(const Json& value) { return value.get<double>() == 0.0; }
bool is_one(const Json& value) { return value.get<double>() == 1.0; }
bool is_false(const Json& value) { return value.is_boolean() && !value.get<bool>(); }
bool is_empty(const Json& value) {
  return value.is_string() ? value.get_ref<const std::string&>().empty() : value.empty();
}

/// A field that changes nothing as long as it asks for plain greedy generation. null always means absent.
struct CheckedField {
  std::string_view name;
  Test has_type;
  std::string_view expected;  // type, for messages
  Test is_plain;
  std::string_view supported;  // value, for messages
};

constexpr std::array checked_fields{
    CheckedField{"temperature", is_number, "a number", is_zero, "0 or no value, tokens are chosen greedily"},
    CheckedField{"top_p", is_number, "a number", any, ""},
    CheckedField{"top_k", is_integer, "an integer", any, ""},
    CheckedField{"min_p", is_number, "a number", any, ""},
    CheckedField{"seed", is_integer, "an integer", any, ""},
    CheckedField{"n", is_number, "an integer", is_one, "1, greedy generation has one answer per prompt"},
    CheckedField{"best_of", is_number, "an integer", is_one, "1, greedy generation has one answer per prompt"},
    CheckedField{"logprobs", is_integer_or_boolean, "an integer", is_false, "null, log-probabilities are not returned"},
    CheckedField{"echo", is_boolean, "true or false", is_false, "false, the answer holds the generated text only"},
    CheckedField{"suffix", is_string, "a string", is_empty, "null, text is only added behind the prompt"},
    CheckedField{"presence_penalty", is_number, "a number", is_zero, "0"},
    CheckedField{"frequency_penalty", is_number, "a number", is_zero, "0"},
    CheckedField{"repetition_penalty", is_number, "a number", is_one, "1"},
    CheckedField{"logit_bias", is_object, "an object", is_empty, "null or {}"},
    CheckedField{"min_tokens", is_integer, "an integer", is_zero, "0"},
    CheckedField{"ignore_eos", is_boolean, "true or false", is_false, "false"},
    CheckedField{"use_beam_search", is_boolean, "true or false", is_false, "false"},
    CheckedField{"stream", is_boolean, "true or false", is_false, "false, a batch row is answered in one piece"},
};

/// Read by read_fields, or without any effect on the answer.
constexpr std::array<std::string_view, 6> read_names{"prompt", "max_tokens", "stop", "model", "user", "metadata"};

/// Known to OpenAI or vLLM and not to us: an error even in a plain row, where other foreign fields are the user's own.
constexpr std::array<std::string_view, 21> refused_names{
    "messages",       "max_completion_tokens", "max_new_tokens",   "response_format",
    "tools",          "tool_choice",           "functions",        "function_call",
    "top_logprobs",   "parallel_tool_calls",   "prompt_logprobs",  "stop_token_ids",
    "length_penalty", "stream_options",        "reasoning_effort", "modalities",
    "prediction",     "guided_json",           "guided_regex",     "guided_choice",
    "guided_grammar"};

const CheckedField* find_checked(std::string_view name) {
  const auto found = std::ranges::find(checked_fields, name, &CheckedField::name);
  return found == checked_fields.end() ? nullptr : &*found;
}

template <class Names>
bool contains(const Names& names, std::string_view name) {
  return std::ranges::find(names, name) != names.end();
}

[[noreturn]] void fail_type(std::string_view field, std::string_view expected, const Json& got) {
  throw RowProblem("invalid_field", fmt::format("field '{}' has the wrong type: expected {}, got {}. Correct the row",
                                                field, expected, describe(got)));
}

void check_plain(const CheckedField& field, const Json& value) {
  if (value.is_null()) return;
  if (!field.has_type(value)) fail_type(field.name, field.expected, value);
  if (!field.is_plain(value))
    throw RowProblem("unsupported_value",
                     fmt::format("field '{}' cannot be honoured: got {}, supported is {}. Change or remove the field",
                                 field.name, describe(value), field.supported));
}

std::string refusal_hint(std::string_view name) {
  if (name == "messages") return "Chat rows are not supported yet: send the finished text as 'prompt'";
  if (name == "max_completion_tokens" || name == "max_new_tokens") return "Use 'max_tokens'";
  return "Remove the field";
}

std::int32_t read_token_id(const Json& value, const std::string& where) {
  constexpr auto limit = static_cast<std::uint64_t>(std::numeric_limits<std::int32_t>::max());
  if (!value.is_number_integer()) fail_type(where, "a token id", value);
  // A non-negative literal is unsigned to the parser, so a signed one is negative.
  if (!value.is_number_unsigned() || value.get<std::uint64_t>() > limit)
    throw RowProblem("invalid_field", fmt::format("'{}' is not a token id: {} is outside 0 .. {}. Correct the row",
                                                  where, describe(value), limit));
  return static_cast<std::int32_t>(value.get<std::uint64_t>());
}

std::vector<std::int32_t> read_token_ids(const Json& list, const std::string& where) {
  if (list.empty())
    throw RowProblem(
        "invalid_field",
        fmt::format("'{}' is an empty list: there is no token to start from. Give at least one id", where));
  std::vector<std::int32_t> ids;
  ids.reserve(list.size());
  for (const Json& value : list) {
    if (value.is_number_unsigned() && value.get<std::uint64_t>() <= 0x7fffffffu)
      ids.push_back(static_cast<std::int32_t>(value.get<std::uint64_t>()));
    else ids.push_back(read_token_id(value, fmt::format("{}[{}]", where, ids.size())));
  }
  return ids;
}

void read_prompts(const Json& prompt, Request& request) {
  constexpr std::string_view expected = "a string, a list of token ids, a list of strings or a list of id lists";
  if (prompt.is_string()) {
    request.prompts.emplace_back(prompt.get<std::string>());
    return;
  }
  if (!prompt.is_array()) fail_type("prompt", expected, prompt);
  if (prompt.empty() || prompt.front().is_number()) {
    request.prompts.emplace_back(read_token_ids(prompt, "prompt"));
    return;
  }
  request.prompt_is_list = true;
  request.prompts.reserve(prompt.size());
  const bool is_text = prompt.front().is_string();
  if (!is_text && !prompt.front().is_array()) fail_type("prompt", expected, prompt.front());
  for (const Json& one : prompt) {
    const std::string where = fmt::format("prompt[{}]", request.prompts.size());
    if (is_text ? !one.is_string() : !one.is_array())
      fail_type(where, is_text ? "a string like the first" : "a list of token ids like the first", one);
    if (is_text) request.prompts.emplace_back(one.get<std::string>());
    else request.prompts.emplace_back(read_token_ids(one, where));
  }
}

int read_max_tokens(const Json& value, bool is_scored) {
  if (!value.is_number_integer()) fail_type("max_tokens", "an integer", value);
  if (value == 0 && is_scored) return 0;
  if (value == 0)
    throw RowProblem(
        "unsupported_value",
        "field 'max_tokens' cannot be honoured: 0 asks for a score of the prompt alone. Give 1 or more, or "
        "use 'flexgen-dist score'");
  if (!value.is_number_unsigned() || value.get<std::uint64_t>() > std::numeric_limits<std::int32_t>::max())
    throw RowProblem("invalid_field", fmt::format("field 'max_tokens' is out of range: {} is not within 1 .. {}. "
                                                  "Correct the row",
                                                  describe(value), std::numeric_limits<std::int32_t>::max()));
  return static_cast<int>(value.get<std::uint64_t>());
}

void read_stop_string(const Json& value, const std::string& where, std::vector<std::string>& stop) {
  if (!value.is_string()) fail_type(where, "a string", value);
  if (value.get_ref<const std::string&>().empty())
    throw RowProblem("invalid_field",
                     fmt::format("'{}' is empty: it would stop every row at once. Remove the empty string", where));
  stop.push_back(value.get<std::string>());
}

std::vector<std::string> read_stop(const Json& value) {
  std::vector<std::string> stop;
  if (value.is_string()) {
    read_stop_string(value, "stop", stop);
    return stop;
  }
  if (!value.is_array()) fail_type("stop", "a string or a list of strings", value);
  if (value.size() > max_stop_strings)
    throw RowProblem("invalid_field", fmt::format("field 'stop' has {} strings: at most {} are supported. Remove some",
                                                  value.size(), max_stop_strings));
  for (const Json& one : value) read_stop_string(one, fmt::format("stop[{}]", stop.size()), stop);
  return stop;
}

/// The field's value; null when it is absent.
const Json* find_set(const Json& body, const char* name) {
  const auto found = body.find(name);
  return found == body.end() || found->is_null() ? nullptr : &*found;
}

const Json* find_text(const Json& body, bool is_scored) {
  const Json* prompt = find_set(body, "prompt");
  const Json* text = is_scored ? find_set(body, "text") : nullptr;
  if (prompt && text)
    throw RowProblem("invalid_field", "the row has both 'prompt' and 'text': one of them would be ignored. Remove one");
  return text ? text : prompt;
}

}  // namespace

std::string shorten(std::string text, std::size_t max_bytes) {
  if (text.size() <= max_bytes) return text;
  std::size_t end = max_bytes;
  while (end > 0 && (static_cast<unsigned char>(text[end]) & 0xC0u) == 0x80u) --end;  // not inside a character
  text.resize(end);
  return text + "...";
}

std::string describe(const Json& value) {
  constexpr std::size_t max_shown_bytes = 60;
  const auto shown = [&] { return value.dump(-1, ' ', false, Json::error_handler_t::replace); };
  switch (value.type()) {
    case Json::value_t::null: return "null";
    case Json::value_t::boolean: return shown();
    case Json::value_t::object: return value.empty() ? "an empty object" : "an object";
    case Json::value_t::array: return value.empty() ? "an empty list" : "a list";
    case Json::value_t::string:  // a long one is cut before it is escaped: it may be the size of the row
      return "the string " + shorten(Json(shorten(value.get<std::string>(), max_shown_bytes)).dump(), max_shown_bytes);
    default: return "the number " + shown();
  }
}

bool is_request_field(std::string_view name) {
  return contains(read_names, name) || contains(refused_names, name) || find_checked(name) != nullptr;
}

void check_fields(const Json& body, bool refuse_unknown) {
  for (const auto& [name, value] : body.items()) {
    if (const CheckedField* field = find_checked(name)) {
      check_plain(*field, value);
    } else if (contains(refused_names, name)) {
      if (!value.is_null())
        throw RowProblem("unsupported_field", fmt::format("field '{}' is not supported: it cannot be honoured here. {}",
                                                          name, refusal_hint(name)));
    } else if (refuse_unknown && !contains(read_names, name)) {
      throw RowProblem("unknown_field",
                       fmt::format("field '{}' of 'body' is unknown: what it asks for would be ignored. Correct its "
                                   "name or remove it (labels of your own may stand in 'metadata')",
                                   shorten(name, 60)));
    }
  }
}

std::vector<std::string> unread_fields(const Json& body, bool is_scored) {
  std::vector<std::string> names;
  for (const auto& [name, value] : body.items())
    if (!is_request_field(name) && name != "custom_id" && !(is_scored && name == "text")) names.push_back(name);
  return names;
}

void read_fields(const Json& body, const RequestDefaults& defaults, Request& request) {
  const Json* prompt = find_text(body, defaults.is_scored);
  if (!prompt)
    throw RowProblem("missing_field", defaults.is_scored
                                          ? "field 'text' (or 'prompt') is missing: there is nothing to score. Add it"
                                          : "field 'prompt' is missing: there is nothing to continue. Add it");
  read_prompts(*prompt, request);
  const Json* max_tokens = find_set(body, "max_tokens");
  request.names_max_tokens = max_tokens != nullptr;
  request.max_tokens = max_tokens ? read_max_tokens(*max_tokens, defaults.is_scored) : defaults.max_tokens;
  if (const Json* stop = find_set(body, "stop")) request.stop = read_stop(*stop);
  if (const Json* model = find_set(body, "model")) {
    if (!model->is_string()) fail_type("model", "a string", *model);
    request.model = model->get<std::string>();
  }
}

}  // namespace flexgen

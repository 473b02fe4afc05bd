#include "job/request_fields.hpp"

#include <fmt/core.h>

#include <algorithm>
#include <array>
#include <limits>

#include "job/input/kept_fields.hpp"
#include "job/input/prompt_template.hpp"

namespace flexgen {
namespace {

using Json = nlohmann::json;

constexpr std::size_t max_stop_strings = 16;

using Test = bool (*)(const Json&);

bool is_boolean(const Json& value) { return value.is_boolean(); }
bool is_string(const Json& value) { return value.is_string(); }
bool is_false(const Json& value) { return !value.get<bool>(); }
bool is_empty(const Json& value) { return value.get_ref<const std::string&>().empty(); }

/// A field that is taken as long as it changes nothing. null always means absent.
struct CheckedField {
  std::string_view name;
  Test has_type;
  std::string_view expected;  // type, for messages
  Test is_plain;
  std::string_view supported;  // value, for messages
};

constexpr std::array checked_fields{
    CheckedField{"suffix", is_string, "a string", is_empty, "null, text is only added behind the prompt"},
    CheckedField{"use_beam_search", is_boolean, "true or false", is_false, "false"},
    CheckedField{"stream", is_boolean, "true or false", is_false, "false, a batch row is answered in one piece"},
};

/// Read by read_fields, or without any effect on the answer.
constexpr std::array<std::string_view, 26> read_names{"prompt",
                                                      "max_tokens",
                                                      "max_completion_tokens",
                                                      "stop",
                                                      "model",
                                                      "user",
                                                      "metadata",
                                                      "temperature",
                                                      "top_p",
                                                      "top_k",
                                                      "min_p",
                                                      "seed",
                                                      "n",
                                                      "best_of",
                                                      "logprobs",
                                                      "top_logprobs",
                                                      "prompt_logprobs",
                                                      "echo",
                                                      "presence_penalty",
                                                      "frequency_penalty",
                                                      "repetition_penalty",
                                                      "logit_bias",
                                                      "min_tokens",
                                                      "ignore_eos",
                                                      "stop_token_ids",
                                                      "choices"};

/// Known to OpenAI or vLLM and not to us: an error even in a plain row, where other foreign fields are the user's own.
constexpr std::array<std::string_view, 17> refused_names{
    "messages",      "max_new_tokens", "response_format",     "tools",          "tool_choice",      "functions",
    "function_call", "length_penalty", "parallel_tool_calls", "stream_options", "reasoning_effort", "modalities",
    "prediction",    "guided_json",    "guided_regex",        "guided_choice",  "guided_grammar"};

const CheckedField* find_checked(std::string_view name) {
  const auto found = std::ranges::find(checked_fields, name, &CheckedField::name);
  return found == checked_fields.end() ? nullptr : &*found;
}

template <class Names>
bool contains(const Names& names, std::string_view name) {
  return std::ranges::find(names, name) != names.end();
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
  if (name == "messages")
    return "Chat needs a chat template, which no model here has: send the finished text as 'prompt'";
  if (name == "max_new_tokens") return "Use 'max_tokens'";
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

std::vector<std::int32_t> read_prompt_ids(const Json& list, const std::string& where) {
  if (list.empty())
    throw RowProblem(
        "invalid_field",
        fmt::format("'{}' is an empty list: there is no token to start from. Give at least one id", where));
  return read_token_ids(list, where);
}

void read_prompts(const Json& prompt, Request& request) {
  constexpr std::string_view expected = "a string, a list of token ids, a list of strings or a list of id lists";
  if (prompt.is_string()) {
    request.prompts.emplace_back(prompt.get<std::string>());
    return;
  }
  if (!prompt.is_array()) fail_type("prompt", expected, prompt);
  if (prompt.empty() || prompt.front().is_number()) {
    request.prompts.emplace_back(read_prompt_ids(prompt, "prompt"));
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
    else request.prompts.emplace_back(read_prompt_ids(one, where));
  }
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

const Json* find_text(const Json& body, bool is_scored) {
  const Json* prompt = find_set(body, "prompt");
  const Json* text = is_scored ? find_set(body, "text") : nullptr;
  if (prompt && text)
    throw RowProblem("invalid_field", "the row has both 'prompt' and 'text': one of them would be ignored. Remove one");
  return text ? text : prompt;
}

}  // namespace

void fail_type(std::string_view field, std::string_view expected, const Json& got) {
  throw RowProblem("invalid_field", fmt::format("field '{}' has the wrong type: expected {}, got {}. Correct the row",
                                                field, expected, describe(got)));
}

void fail_range(std::string_view field, const Json& got, std::string_view limits) {
  throw RowProblem("invalid_field", fmt::format("field '{}' is out of range: {} is not within {}. Correct the row",
                                                field, describe(got), limits));
}

void refuse_field(std::string_view name) {
  throw RowProblem("unsupported_field", fmt::format("field '{}' is not supported: it cannot be honoured here. {}", name,
                                                    refusal_hint(name)));
}

const Json* find_set(const Json& body, const char* name) {
  const auto found = body.find(name);
  return found == body.end() || found->is_null() ? nullptr : &*found;
}

std::vector<std::int32_t> read_token_ids(const Json& list, const std::string& where) {
  std::vector<std::int32_t> ids;
  ids.reserve(list.size());
  for (const Json& value : list) {
    if (value.is_number_unsigned() && value.get<std::uint64_t>() <= 0x7fffffffu)
      ids.push_back(static_cast<std::int32_t>(value.get<std::uint64_t>()));
    else ids.push_back(read_token_id(value, fmt::format("{}[{}]", where, ids.size())));
  }
  return ids;
}

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
      if (!value.is_null()) refuse_field(name);
    } else if (refuse_unknown && !contains(read_names, name)) {
      throw RowProblem("unknown_field",
                       fmt::format("field '{}' of 'body' is unknown: what it asks for would be ignored. Correct its "
                                   "name or remove it (labels of your own may stand in 'metadata')",
                                   shorten(name, 60)));
    }
  }
}

std::vector<std::string> unread_fields(const Json& body, const RequestDefaults& defaults) {
  const auto is_wanted = [&](const std::string& name) {
    return name == "custom_id" || (defaults.is_scored && name == "text") ||
           (defaults.prompt_template && defaults.prompt_template->names(name)) ||
           (defaults.kept_fields && defaults.kept_fields->keeps(name));
  };
  std::vector<std::string> names;
  for (const auto& [name, value] : body.items()) {
    const bool is_own =
        name == "choices" ? !value.is_null() && !asks_for_choice(value, false) : !is_request_field(name);
    if (is_own && !is_wanted(name)) names.push_back(name);
  }
  return names;
}

void read_fields(const Json& body, const RequestDefaults& defaults, Request& request) {
  const Json* prompt = find_text(body, defaults.is_scored);
  if (!prompt)
    throw RowProblem("missing_field", defaults.is_scored
                                          ? "field 'text' (or 'prompt') is missing: there is nothing to score. Add it"
                                          : "field 'prompt' is missing: there is nothing to continue. Add it");
  read_prompts(*prompt, request);
  const char* length_name = find_set(body, "max_completion_tokens") ? "max_completion_tokens" : "max_tokens";
  const Json* max_tokens = find_set(body, length_name);
  if (const Json* other = find_set(body, "max_tokens"); other && *other != *max_tokens)
    throw RowProblem("invalid_field",
                     "fields 'max_tokens' and 'max_completion_tokens' mean the same, and differ. Remove one");
  request.names_max_tokens = max_tokens != nullptr;
  request.max_tokens = max_tokens ? read_integer(*max_tokens, length_name, 0, std::numeric_limits<std::int32_t>::max())
                                  : defaults.max_tokens;
  if (const Json* stop = find_set(body, "stop")) request.stop = read_stop(*stop);
  if (const Json* model = find_set(body, "model")) {
    if (!model->is_string()) fail_type("model", "a string", *model);
    request.model = model->get<std::string>();
  }
  read_sampling(body, defaults.is_scored, request);
}

}  // namespace flexgen

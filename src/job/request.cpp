#include "job/request.hpp"

#include <fmt/core.h>

#include <set>
#include <utility>

#include "job/broken_row.hpp"
#include "job/input/kept_fields.hpp"
#include "job/input/prompt_template.hpp"
#include "job/json_text.hpp"
#include "job/request_fields.hpp"

namespace flexgen {
namespace {

using Json = nlohmann::json;

/// A request nests three deep; a thousand levels are an attack on recursive code downstream.
constexpr std::size_t max_depth = 64;

/// Watches the parser: refuses deep nesting, and a key that stands twice (either value would be ignored).
class ParseGuard {
 public:
  bool operator()(int, Json::parse_event_t event, const Json& parsed) {
    switch (event) {
      case Json::parse_event_t::object_start:
      case Json::parse_event_t::array_start:
        if (keys_.size() >= max_depth)
          throw RowProblem("invalid_json", fmt::format("the row is not usable JSON: it nests deeper than {} levels. "
                                                       "Correct the row",
                                                       max_depth));
        keys_.emplace_back();
        break;
      case Json::parse_event_t::object_end:
      case Json::parse_event_t::array_end: keys_.pop_back(); break;
      case Json::parse_event_t::key:
        if (!keys_.back().insert(parsed.get<std::string>()).second)
          throw RowProblem("invalid_json", fmt::format("the row is not usable JSON: the key {} stands twice in one "
                                                       "object. Remove one",
                                                       describe(parsed)));
        break;
      case Json::parse_event_t::value: break;
    }
    return true;
  }

 private:
  std::vector<std::set<std::string>> keys_;  // per open object or list
};

/// The library's reason without its own prefix, and without the piece of input behind it, which may be the whole row.
std::string parser_reason(std::string_view text) {
  if (const auto bracket = text.find("] "); bracket != std::string_view::npos) text.remove_prefix(bracket + 2);
  text = text.substr(0, text.find("; last read"));
  return shorten(std::string(text), 300);
}

Json parse_document(std::string_view line) {
  // The parser takes a NUL byte for the end of its input and would not look at what follows.
  if (const auto position = line.find('\0'); position != std::string_view::npos)
    throw RowProblem("invalid_json", fmt::format("the row is not valid JSON: byte {} is NUL. Correct the row (inside a "
                                                 "string write \\u0000)",
                                                 position + 1));
  Json document;
  try {
    ParseGuard guard;
    document = Json::parse(
        line, [&guard](int depth, Json::parse_event_t event, Json& parsed) { return guard(depth, event, parsed); });
  } catch (const Json::exception& error) {
    throw RowProblem("invalid_json",
                     fmt::format("the row is not valid JSON: {}. Correct the row", parser_reason(error.what())));
  }
  if (!document.is_object())
    throw RowProblem("invalid_json", fmt::format("the row is not a JSON object: got {}. Write one {{...}} per line",
                                                 describe(document)));
  return document;
}

/// A plain row may carry a 'url' or a textual 'body' of the user's own, as web data sets do.
bool looks_like_batch(const Json& document) {
  const bool has_method = document.contains("method");
  const bool has_url = document.contains("url");
  const auto body = document.find("body");
  const bool has_body = body != document.end();
  if (has_body && body->is_object()) return true;
  if (has_method && has_url) return true;
  return (has_method || has_url || has_body) && !document.contains("prompt");
}

void identify(const Json& document, RowIdentity& row) {
  const auto id = document.find("custom_id");
  if (id == document.end() || id->is_null()) {
    if (row.batch_format)
      throw RowProblem("missing_field",
                       "field 'custom_id' is missing: results of batch rows are found by it. Give every row its own");
    return;
  }
  if (!id->is_string())
    throw RowProblem("invalid_field", fmt::format("field 'custom_id' has the wrong type: expected a string, got {}. "
                                                  "Put it in quotes",
                                                  describe(*id)));
  if (id->get_ref<const std::string&>().empty())
    throw RowProblem("invalid_field", "field 'custom_id' is empty: no result could be found by it. Give the row an id");
  row.custom_id = id->get<std::string>();
  row.names_itself = true;
}

const std::string& required_string(const Json& document, const char* name, std::string_view example) {
  const auto found = document.find(name);
  if (found == document.end() || found->is_null())
    throw RowProblem("missing_field",
                     fmt::format("field '{}' of a batch row is missing. Add \"{}\": \"{}\"", name, name, example));
  if (!found->is_string())
    throw RowProblem("invalid_field", fmt::format("field '{}' has the wrong type: expected a string, got {}. Correct "
                                                  "the row",
                                                  name, describe(*found)));
  return found->get_ref<const std::string&>();
}

void check_endpoint(const Json& document) {
  const std::string& url = required_string(document, "url", "/v1/completions");
  if (url == "/v1/chat/completions")
    throw RowProblem("unsupported_url",
                     "url '/v1/chat/completions' cannot be honoured: chat needs a chat template, which no model here "
                     "has. Send the finished text as 'prompt' to /v1/completions");
  if (url != "/v1/completions")
    throw RowProblem("unsupported_url",
                     fmt::format("url '{}' is not supported: batch rows run on /v1/completions only. "
                                 "Correct the row",
                                 shorten(url, 80)));
  const std::string& method = required_string(document, "method", "POST");
  if (method != "POST")
    throw RowProblem("unsupported_value", fmt::format("method '{}' is not supported: a completion is a POST. Correct "
                                                      "the row",
                                                      shorten(method, 20)));
}

Json& batch_body(Json& document) {
  check_endpoint(document);
  const auto body = document.find("body");
  if (body == document.end() || body->is_null())
    throw RowProblem("missing_field", "field 'body' of a batch row is missing: it holds the request. Add it");
  if (!body->is_object())
    throw RowProblem("invalid_field",
                     fmt::format("field 'body' has the wrong type: expected an object, got {}. Correct "
                                 "the row",
                                 describe(*body)));
  for (const auto& [name, value] : document.items())
    if (!value.is_null() && is_request_field(name))
      throw RowProblem("invalid_field", fmt::format("field '{}' stands beside 'body': there it has no effect. Move it "
                                                    "into 'body'",
                                                    name));
  return *body;
}

/// What the prompt is made of has no place in a batch row's body otherwise.
void fill_prompt(const PromptTemplate& prompt_template, bool batch_format, Json& body) {
  std::string prompt = prompt_template.fill(body);
  std::vector<std::string> used;
  for (const auto& [name, value] : body.items())
    if (name == "text" || (batch_format && prompt_template.names(name) && !is_request_field(name)))
      used.push_back(name);
  for (const std::string& name : used) body.erase(name);
  body["prompt"] = std::move(prompt);
}

}  // namespace

RowIdentity line_identity(std::size_t line_number) {
  return {line_number, fmt::format("line-{}", line_number), false, false};
}

ParsedRow parse_request(std::string_view line, std::size_t line_number, const RequestDefaults& defaults) {
  return parse_request(line, line_identity(line_number), defaults);
}

ParsedRow parse_request(std::string_view line, RowIdentity row, const RequestDefaults& defaults) {
  const std::optional<std::string> repaired = replace_lone_surrogates(line);
  if (repaired) line = *repaired;
  try {
    Json document = parse_document(line);
    row.batch_format = looks_like_batch(document);
    return read_request(std::move(document), row, defaults);
  } catch (const RowProblem& problem) {
    identify_broken_row(line, row);
    return RowError{std::move(row), problem.code, problem.what()};
  }
}

ParsedRow read_request(Json document, RowIdentity row, const RequestDefaults& defaults) {
  try {
    if (defaults.kept_fields) row.kept_fields = defaults.kept_fields->of(document, row.batch_format);
    identify(document, row);
    Json* body = row.batch_format ? &batch_body(document) : &document;
    std::vector<std::string> unread;
    if (!row.batch_format) unread = unread_fields(*body, defaults);
    if (defaults.prompt_template) fill_prompt(*defaults.prompt_template, row.batch_format, *body);
    check_fields(*body, row.batch_format);
    Request request;
    static_cast<RowIdentity&>(request) = row;
    read_fields(*body, defaults, request);
    if (defaults.is_scored) refuse_what_scoring_does_not(request);
    request.unread_fields = std::move(unread);
    return request;
  } catch (const RowProblem& problem) {
    return RowError{std::move(row), problem.code, problem.what()};
  }
}

}  // namespace flexgen

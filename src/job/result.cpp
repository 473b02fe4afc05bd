#include "job/result.hpp"

#include <fmt/core.h>

#include <array>
#include <cmath>
#include <nlohmann/json.hpp>
#include <utility>

#include "base/error.hpp"
#include "job/result_logprobs.hpp"
#include "job/row_hash.hpp"

namespace flexgen {
namespace {

using OrderedJson = nlohmann::ordered_json;

std::string id_suffix(std::string_view custom_id) { return fmt::format("{:016x}", row_hash(custom_id)); }

/// JSON lets these characters stand in a string as they are, but readers that split a file with Python's
/// str.splitlines take them for ends of line.
void escape_line_separators(std::string& json) {
  constexpr std::array<std::pair<std::string_view, std::string_view>, 3> separators{
      {{"\xC2\x85", "\\u0085"}, {"\xE2\x80\xA8", "\\u2028"}, {"\xE2\x80\xA9", "\\u2029"}}};
  for (const auto& [raw, escaped] : separators)
    for (auto at = json.find(raw); at != std::string::npos; at = json.find(raw, at + escaped.size()))
      json.replace(at, raw.size(), escaped);
}

std::string to_line(const OrderedJson& json) {
  std::string line = json.dump(-1, ' ', false, OrderedJson::error_handler_t::replace);
  escape_line_separators(line);
  return line;
}

OrderedJson usage_json(const Usage& usage) {
  return {{"prompt_tokens", usage.prompt_tokens},
          {"completion_tokens", usage.completion_tokens},
          {"total_tokens", usage.total_tokens()}};
}

void add_token_ids(OrderedJson& json, const Choice& choice, const ResultFormat& format) {
  if (!format.return_token_ids) return;
  json["token_ids"] = choice.token_ids;
  json["prompt_token_ids"] = choice.prompt_token_ids;
}

void add_logprobs(OrderedJson& json, const Choice& choice, bool batch_format) {
  if (choice.logprobs) json["logprobs"] = logprobs_json(*choice.logprobs);
  else if (batch_format) json["logprobs"] = nullptr;
  if (choice.prompt_logprobs) json["prompt_logprobs"] = logprobs_json(*choice.prompt_logprobs);
  if (choice.choice_logprobs.empty()) return;
  OrderedJson& sums = json["choice_logprobs"] = OrderedJson::array();
  for (const double sum : choice.choice_logprobs) sums.push_back(printed_logprob(sum));
}

void add_attempts(OrderedJson& json, const Choice& choice) {
  if (!choice.attempts) return;
  json["attempts"] = choice.attempts->count;
  if (!choice.attempts->last_matched) json["matched"] = false;
}

/// A batch row's stand apart: its own fields are OpenAI's.
void add_kept_fields(OrderedJson& json, const RowIdentity& row) {
  if (row.kept_fields.empty()) return;
  OrderedJson kept = OrderedJson::parse(row.kept_fields);
  if (row.batch_format) json["fields"] = std::move(kept);
  else json.update(kept);
}

OrderedJson choices_json(const Result& result, const ResultFormat& format) {
  OrderedJson choices = OrderedJson::array();
  for (const Choice& choice : result.choices) {
    OrderedJson one;
    one["index"] = choice.index;
    if (format.has_text) one["text"] = choice.text;
    one["finish_reason"] = choice.finish_reason;
    add_logprobs(one, choice, result.batch_format);
    add_token_ids(one, choice, format);
    add_attempts(one, choice);
    choices.push_back(std::move(one));
  }
  return choices;
}

OrderedJson batch_result(const Result& result, const ResultFormat& format) {
  const std::string suffix = id_suffix(result.custom_id);
  OrderedJson body;
  body["id"] = "cmpl-" + suffix;
  body["object"] = "text_completion";
  body["created"] = format.created;
  body["model"] = format.model_name;
  body["choices"] = choices_json(result, format);
  body["usage"] = usage_json(result.usage);

  OrderedJson json;
  json["id"] = "batch_req_" + suffix;
  json["custom_id"] = result.custom_id;
  json["response"] = {{"status_code", 200}, {"request_id", "req_" + suffix}, {"body", std::move(body)}};
  json["error"] = nullptr;
  add_kept_fields(json, result);
  return json;
}

OrderedJson plain_result(const Result& result, const ResultFormat& format) {
  OrderedJson json;
  json["custom_id"] = result.custom_id;
  if (result.prompt_is_list) {
    json["choices"] = choices_json(result, format);
  } else {
    const Choice& choice = result.choices.front();
    if (format.has_text) json["text"] = choice.text;
    json["finish_reason"] = choice.finish_reason;
    add_logprobs(json, choice, result.batch_format);
    add_token_ids(json, choice, format);
    add_attempts(json, choice);
  }
  json["usage"] = usage_json(result.usage);
  add_kept_fields(json, result);
  return json;
}

void add_scores(OrderedJson& json, const ScoredText& text, bool return_token_ids) {
  if (return_token_ids) json["token_ids"] = text.token_ids;
  OrderedJson scores = OrderedJson::array({nullptr});
  double sum = 0;
  for (const float score : text.log_probabilities) {
    scores.push_back(printed_logprob(static_cast<double>(score)));
    sum += static_cast<double>(score);
  }
  const std::size_t count = text.log_probabilities.size();
  json["token_logprobs"] = std::move(scores);
  json["sum"] = sum;
  json["count"] = count;
  json["perplexity"] = count > 0 ? OrderedJson(std::exp(-sum / static_cast<double>(count))) : OrderedJson();
}

}  // namespace

Result result_for(const Request& request) {
  return Result{static_cast<const RowIdentity&>(request), request.prompt_is_list || request.n > 1, {}, {}};
}

std::string format_result(const Result& result, const ResultFormat& format) {
  FLEXGEN_CHECK(!result.choices.empty(), "a result without choices");
  FLEXGEN_CHECK(result.prompt_is_list || result.choices.size() == 1, "several choices for a single prompt");
  return to_line(result.batch_format ? batch_result(result, format) : plain_result(result, format));
}

std::string format_scores(const ScoreResult& result, bool return_token_ids) {
  FLEXGEN_CHECK(!result.texts.empty(), "a result without texts");
  FLEXGEN_CHECK(result.prompt_is_list || result.texts.size() == 1, "several texts for a single prompt");
  OrderedJson json;
  json["custom_id"] = result.custom_id;
  if (!result.prompt_is_list) {
    add_scores(json, result.texts.front(), return_token_ids);
    add_kept_fields(json, result);
    return to_line(json);
  }
  OrderedJson choices = OrderedJson::array();
  for (const ScoredText& text : result.texts) {
    OrderedJson one;
    one["index"] = choices.size();
    add_scores(one, text, return_token_ids);
    choices.push_back(std::move(one));
  }
  json["choices"] = std::move(choices);
  add_kept_fields(json, result);
  return to_line(json);
}

std::string format_error(const RowError& error) {
  OrderedJson json;
  if (error.batch_format) json["id"] = "batch_req_" + id_suffix(error.custom_id);
  json["custom_id"] = error.custom_id;
  if (error.batch_format) json["response"] = nullptr;
  json["error"] = {{"code", error.code}, {"message", error.message}};
  add_kept_fields(json, error);
  return to_line(json);
}

}  // namespace flexgen

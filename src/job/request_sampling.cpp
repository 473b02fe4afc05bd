// Fields of a request body that say how tokens are chosen, how many answers there are, and what comes back beside them.
#include <fmt/core.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <limits>
#include <set>

#include "job/request_fields.hpp"
#include "job/row_hash.hpp"

namespace flexgen {
namespace {

using Json = nlohmann::json;

constexpr int most_answers = 128;
constexpr int most_candidates = 20;
constexpr int most_logprobs = 20;  // OpenAI: 5 for completions, 20 for chat
constexpr double most_bias = 100;
constexpr int most_tokens = std::numeric_limits<std::int32_t>::max();

enum class Least { included, excluded };

struct NumberField {
  const char* name;
  double least;
  Least least_is;
  double most;
  float SamplingOptions::*value;
};

// The limits of a repetition_penalty keep logits finite.
constexpr std::array number_fields{
    NumberField{"temperature", 0, Least::included, 2, &SamplingOptions::temperature},
    NumberField{"top_p", 0, Least::excluded, 1, &SamplingOptions::top_p},
    NumberField{"min_p", 0, Least::included, 1, &SamplingOptions::min_p},
    NumberField{"repetition_penalty", 0.01, Least::included, 100, &SamplingOptions::repetition_penalty},
    NumberField{"presence_penalty", -2, Least::included, 2, &SamplingOptions::presence_penalty},
    NumberField{"frequency_penalty", -2, Least::included, 2, &SamplingOptions::frequency_penalty}};

void read_number(const Json& body, const NumberField& field, SamplingOptions& sampling) {
  const Json* value = find_set(body, field.name);
  if (!value) return;
  if (!value->is_number()) fail_type(field.name, "a number", *value);
  const auto number = value->get<double>();
  const bool is_enough = field.least_is == Least::included ? number >= field.least : number > field.least;
  if (!is_enough || number > field.most)
    fail_range(
        field.name, *value,
        fmt::format("{}{} .. {}", field.least_is == Least::excluded ? "more than " : "", field.least, field.most));
  // What is too little for float32 and yet not nothing stays more than nothing.
  sampling.*field.value =
      number > 0 ? std::max(static_cast<float>(number), std::numeric_limits<float>::min()) : static_cast<float>(number);
}

std::int32_t integer_or(std::int32_t absent, const Json& body, const char* name, int least, int most) {
  const Json* value = find_set(body, name);
  return value ? read_integer(*value, name, least, most) : absent;
}

bool read_flag(const Json& body, const char* name) {
  const Json* value = find_set(body, name);
  if (value && !value->is_boolean()) fail_type(name, "true or false", *value);
  return value && value->get<bool>();
}

std::uint64_t read_seed(const Json& body, std::uint64_t absent) {
  const Json* value = find_set(body, "seed");
  if (!value) return absent;
  if (!value->is_number_integer()) fail_type("seed", "an integer", *value);
  if (value->is_number_unsigned() && value->get<std::uint64_t>() > std::numeric_limits<std::int64_t>::max())
    fail_range("seed", *value, "64 bits with a sign");
  return static_cast<std::uint64_t>(value->get<std::int64_t>());
}

/// The id as its decimal digits, and nothing beside them.
std::int32_t read_bias_token(const std::string& name) {
  std::int32_t token = -1;
  const auto [end, error] = std::from_chars(name.data(), name.data() + name.size(), token);
  if (error != std::errc() || end != name.data() + name.size() || fmt::format("{}", token) != name || token < 0)
    throw RowProblem("invalid_field", fmt::format("field 'logit_bias' has the name {}: expected a token id, as "
                                                  "\"50256\". Correct the row",
                                                  describe(Json(name))));
  return token;
}

std::vector<TokenBias> read_logit_bias(const Json& body) {
  std::vector<TokenBias> biases;
  const Json* value = find_set(body, "logit_bias");
  if (!value) return biases;
  if (!value->is_object()) fail_type("logit_bias", "an object", *value);
  for (const auto& [name, bias] : value->items()) {
    const std::int32_t token = read_bias_token(name);
    const std::string where = fmt::format("logit_bias[\"{}\"]", name);
    if (!bias.is_number()) fail_type(where, "a number", bias);
    const auto number = bias.get<double>();
    if (number < -most_bias || number > most_bias)
      fail_range(where, bias, fmt::format("{} .. {}", -most_bias, most_bias));
    if (number != 0) biases.push_back({token, static_cast<float>(number)});
  }
  std::ranges::sort(biases, {}, &TokenBias::token);
  return biases;
}

/// `logprobs` as completions have it (a number) or as chat does (true, with the number in `top_logprobs`).
std::int32_t read_num_logprobs(const Json& body) {
  const Json* value = find_set(body, "logprobs");
  const bool is_chat_form = value && value->is_boolean() && value->get<bool>();
  const std::int32_t top = integer_or(is_chat_form ? 0 : -1, body, "top_logprobs", 0, most_logprobs);
  if (is_chat_form) return top;
  if (top >= 0)
    throw RowProblem("invalid_field",
                     "field 'top_logprobs' stands without 'logprobs': true: it would be ignored. Add that, or give the "
                     "number as 'logprobs'");
  if (!value || value->is_boolean()) return -1;
  return read_integer(*value, "logprobs", 0, most_logprobs);
}

void read_answers(const Json& body, Request& request) {
  request.n = integer_or(1, body, "n", 1, most_answers);
  request.best_of = integer_or(request.n, body, "best_of", 1, most_candidates);
  if (request.best_of < request.n)
    throw RowProblem("invalid_field",
                     fmt::format("field 'best_of' is less than 'n': {} answers cannot give the best {}. "
                                 "Correct the row",
                                 request.best_of, request.n));
  if (request.sampling.temperature == 0.0F) request.best_of = request.n;  // all are the same
}

void read_choices(const Json& body, Request& request) {
  const Json* list = find_set(body, "choices");
  if (!list || !asks_for_choice(*list, request.batch_format)) return;
  if (!list->is_array()) fail_type("choices", "a list of strings", *list);
  if (list->empty())
    throw RowProblem("invalid_field",
                     "field 'choices' is an empty list: there is nothing to choose from. Add a string");
  std::set<std::string_view> seen;
  for (const Json& one : *list) {
    const std::string where = fmt::format("choices[{}]", request.choices.size());
    if (!one.is_string()) fail_type(where, "a string", one);
    const auto& text = one.get_ref<const std::string&>();
    if (text.empty() || !seen.insert(text).second)
      throw RowProblem("invalid_field", fmt::format("'{}' {}: choices are told apart by their texts. Correct the row",
                                                    where, text.empty() ? "is empty" : "stands there already"));
    request.choices.push_back(text);
  }
  const char* other = request.n > 1           ? "n"
                      : request.best_of > 1   ? "best_of"
                      : !request.stop.empty() ? "stop"
                      : request.echo          ? "echo"
                                              : nullptr;
  if (other)
    throw RowProblem("invalid_field", fmt::format("fields 'choices' and '{}' stand together: an answer that is one of "
                                                  "'choices' leaves no room for it. Remove one",
                                                  other));
}

void check_lengths(const Request& request, bool is_scored) {
  if (request.max_tokens == 0 && !is_scored && request.choices.empty() && !request.echo && request.prompt_logprobs < 0)
    throw RowProblem("unsupported_value",
                     "field 'max_tokens' cannot be honoured: 0 asks for nothing but the prompt. Add 'echo', give 1 or "
                     "more, or use 'flexgen-dist score'");
  if (request.sampling.min_tokens > request.max_tokens)
    throw RowProblem("invalid_field", fmt::format("field 'min_tokens' is more than max_tokens, {} than {}. Correct the "
                                                  "row",
                                                  request.sampling.min_tokens, request.max_tokens));
}

}  // namespace

bool asks_for_choice(const Json& choices, bool batch_format) {
  return batch_format ||
         (choices.is_array() && std::ranges::all_of(choices, [](const Json& one) { return one.is_string(); }));
}

std::int32_t read_integer(const Json& value, const std::string& name, std::int32_t least, std::int32_t most) {
  if (!value.is_number_integer()) fail_type(name, "an integer", value);
  const bool is_beyond =
      value.is_number_unsigned() && value.get<std::uint64_t>() > std::numeric_limits<std::int64_t>::max();
  const auto number = value.get<std::int64_t>();
  if (is_beyond || number < least || number > most) fail_range(name, value, fmt::format("{} .. {}", least, most));
  return static_cast<std::int32_t>(number);
}

void read_sampling(const Json& body, bool is_scored, Request& request) {
  SamplingOptions& sampling = request.sampling;
  for (const NumberField& field : number_fields) read_number(body, field, sampling);
  sampling.top_k = std::max(0, integer_or(0, body, "top_k", -1, most_tokens));
  sampling.seed = read_seed(body, row_hash(request.custom_id));
  sampling.logit_bias = read_logit_bias(body);
  sampling.min_tokens = integer_or(0, body, "min_tokens", 0, most_tokens);
  sampling.num_logprobs = read_num_logprobs(body);
  request.prompt_logprobs = integer_or(-1, body, "prompt_logprobs", 0, most_logprobs);
  request.echo = read_flag(body, "echo");
  request.ignore_eos = read_flag(body, "ignore_eos");
  if (const Json* ids = find_set(body, "stop_token_ids")) {
    if (!ids->is_array()) fail_type("stop_token_ids", "a list of token ids", *ids);
    request.stop_token_ids = read_token_ids(*ids, "stop_token_ids");
  }
  read_answers(body, request);
  read_choices(body, request);
  check_lengths(request, is_scored);
}

void refuse_what_scoring_does_not(const Request& request) {
  const SamplingOptions& sampling = request.sampling;
  const std::pair<const char*, bool> fields[] = {{"temperature", sampling.temperature != 0},
                                                 {"n", request.n > 1},
                                                 {"logprobs", sampling.num_logprobs >= 0},
                                                 {"prompt_logprobs", request.prompt_logprobs >= 0},
                                                 {"echo", request.echo},
                                                 {"presence_penalty", sampling.presence_penalty != 0},
                                                 {"frequency_penalty", sampling.frequency_penalty != 0},
                                                 {"repetition_penalty", sampling.repetition_penalty != 1},
                                                 {"logit_bias", !sampling.logit_bias.empty()},
                                                 {"min_tokens", sampling.min_tokens > 0},
                                                 {"ignore_eos", request.ignore_eos},
                                                 {"stop_token_ids", !request.stop_token_ids.empty()},
                                                 {"choices", !request.choices.empty()}};
  for (const auto& [name, is_asked_for] : fields)
    if (is_asked_for) refuse_field(name);
}

}  // namespace flexgen

#include "job/result_logprobs.hpp"

#include <fmt/core.h>

#include <algorithm>
#include <cmath>

#include "job/utf8.hpp"

namespace flexgen {
namespace {

using OrderedJson = nlohmann::ordered_json;

constexpr double least_logprob = -9999;  // in OpenAI's answers, too: JSON has no infinity

OrderedJson number(float log_probability) {
  return std::max(printed_logprob(static_cast<double>(log_probability)), least_logprob);
}

/// The likeliest tokens, and the token itself if it is none of them. Of two that read alike the likelier counts.
OrderedJson top_json(const ChoiceToken& token, const std::string& text) {
  if (!token.log_probability) return nullptr;
  OrderedJson top = OrderedJson::object();
  for (const TokenLogprob& one : token.top) top.emplace(token_text(one.bytes), number(one.log_probability));
  top.emplace(text, number(*token.log_probability));
  return top;
}

}  // namespace

double printed_logprob(double log_probability) {
  return std::round(log_probability * 1e7) / 1e7 + 0.0;  // the sum: no -0
}

std::string token_text(std::string_view bytes) {
  if (is_utf8(bytes)) return std::string(bytes);
  std::string text = "bytes:";
  for (const char byte : bytes) text += fmt::format("\\x{:02x}", static_cast<unsigned char>(byte));
  return text;
}

OrderedJson logprobs_json(const std::vector<ChoiceToken>& tokens) {
  OrderedJson texts = OrderedJson::array(), values = OrderedJson::array(), tops = OrderedJson::array(),
              offsets = OrderedJson::array();
  std::int64_t offset = 0;
  for (const ChoiceToken& token : tokens) {
    const std::string text = token_text(token.bytes);
    tops.push_back(top_json(token, text));
    texts.push_back(text);
    values.push_back(token.log_probability ? number(*token.log_probability) : OrderedJson());
    offsets.push_back(offset);
    offset += std::ranges::count_if(token.bytes, [](char byte) { return !continues_character(byte); });
  }
  OrderedJson json;
  json["tokens"] = std::move(texts);
  json["token_logprobs"] = std::move(values);
  json["top_logprobs"] = std::move(tops);
  json["text_offset"] = std::move(offsets);
  return json;
}

}  // namespace flexgen

#include "job/result_logprobs.hpp"

#include <fmt/core.h>

#include <algorithm>
#include <cmath>

namespace flexgen {
namespace {

using OrderedJson = nlohmann::ordered_json;

constexpr double least_logprob = -9999;  // in OpenAI's answers, too: JSON has no infinity

bool continues_character(char byte) { return (static_cast<unsigned char>(byte) & 0xC0u) == 0x80u; }

/// Length of the well-formed character that `text` begins with; 0 where there is none. Source: RFC 3629.
std::size_t character_length(std::string_view text) {
  const auto byte = [&](std::size_t i) { return static_cast<unsigned char>(text[i]); };
  const unsigned char lead = byte(0);
  if (lead < 0x80) return 1;
  const std::size_t length = lead < 0xC2 ? 0 : lead < 0xE0 ? 2 : lead < 0xF0 ? 3 : lead < 0xF5 ? 4 : 0;
  if (length == 0 || text.size() < length || !std::ranges::all_of(text.substr(1, length - 1), continues_character))
    return 0;
  const bool is_overlong = (lead == 0xE0 && byte(1) < 0xA0) || (lead == 0xF0 && byte(1) < 0x90);
  const bool is_surrogate = lead == 0xED && byte(1) >= 0xA0;
  const bool is_beyond = lead == 0xF4 && byte(1) >= 0x90;
  return is_overlong || is_surrogate || is_beyond ? 0 : length;
}

bool is_text(std::string_view bytes) {
  while (!bytes.empty()) {
    const std::size_t length = character_length(bytes);
    if (length == 0) return false;
    bytes.remove_prefix(length);
  }
  return true;
}

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
  if (is_text(bytes)) return std::string(bytes);
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

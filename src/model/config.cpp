#include "model/config.hpp"

#include <fmt/core.h>

#include <algorithm>
#include <array>
#include <utility>

#include "base/error.hpp"
#include "spec/generation_config.hpp"

namespace flexgen {
namespace {

using nlohmann::json;

// Members of any family's config.json that change nothing that is computed.
constexpr auto known_members = std::to_array<std::string_view>({"architectures",
                                                                "dropout",
                                                                "attention_dropout",
                                                                "activation_dropout",
                                                                "layerdrop",
                                                                "init_std",
                                                                "use_cache",
                                                                "prefix",
                                                                "_name_or_path",
                                                                "name_or_path",
                                                                "_attn_implementation",
                                                                "attn_implementation",
                                                                "_attn_implementation_autoset",
                                                                "id2label",
                                                                "label2id",
                                                                "problem_type",
                                                                "finetuning_task",
                                                                "task_specific_params",
                                                                "tokenizer_class",
                                                                "gradient_checkpointing",
                                                                "torchscript",
                                                                "use_bfloat16",
                                                                "return_dict",
                                                                "chunk_size_feed_forward",
                                                                "tf_legacy_loss",
                                                                "sep_token_id",
                                                                "is_decoder",
                                                                "cross_attention_hidden_size"});

}  // namespace

Config Config::parse(std::string_view text, const std::string& where) {
  json object = json::parse(text, nullptr, false);
  if (!object.is_object())
    throw UserError(ExitCode::model, "cannot read " + where, "it is not a JSON object",
                    "Give a Hugging Face model directory");
  return Config(std::move(object), where);
}

Config::Config(json object, std::string where) : object_(std::move(object)), where_(std::move(where)) {}

void Config::refuse(const std::string& reason, const std::string& suggestion) const {
  throw UserError(ExitCode::model, "cannot run the model of " + where_, reason, suggestion);
}

bool Config::present(const char* key) const {
  asked_for_.emplace(key);
  return object_.contains(key) && !object_.at(key).is_null();
}

std::int32_t Config::count(const char* key, std::int32_t lowest) const {
  if (!present(key)) refuse(fmt::format("'{}' is missing", key), "The file must be a Hugging Face config.json");
  return count_or(key, 0, lowest);
}

std::int32_t Config::count_or(const char* key, std::int32_t fallback, std::int32_t lowest) const {
  if (!present(key)) return fallback;
  const json& value = object_.at(key);
  if (!value.is_number_integer() || value.get<double>() < lowest || value.get<double>() > 1e9)
    refuse(fmt::format("'{}' is {}, expected a whole number of at least {}", key, value.dump(), lowest), "");
  return value.get<std::int32_t>();
}

bool Config::flag_or(const char* key, bool fallback) const {
  if (!present(key)) return fallback;
  const json& value = object_.at(key);
  if (!value.is_boolean()) refuse(fmt::format("'{}' is {}, expected true or false", key, value.dump()), "");
  return value.get<bool>();
}

std::string Config::text_or(const char* key, const std::string& fallback) const {
  if (!present(key)) return fallback;
  const json& value = object_.at(key);
  if (!value.is_string()) refuse(fmt::format("'{}' is {}, expected a string", key, value.dump()), "");
  return value.get<std::string>();
}

QuantFormat Config::compression(const char* key) const {
  const json& value = object_.at(key);
  if (!value.is_object()) refuse(fmt::format("'{}' is {}, expected an object", key, value.dump()), "");
  const Config inner(value, where_);
  const QuantFormat format{inner.count("weight_bits"), inner.count("group")};
  if (inner.count("version") != 1 || !format.has_known_bits() || !format.has_known_group())
    refuse(fmt::format("its compressed weights are in a form that this program does not know: {}", value.dump()),
           "It was written by another version; compress the model again with --save-compressed");
  return format;
}

void Config::pass_over(std::initializer_list<const char*> keys) const { asked_for_.insert(keys.begin(), keys.end()); }

std::vector<std::string> Config::unread() const {
  std::vector<std::string> unread;
  for (const auto& [name, value] : object_.items()) {
    if (asked_for_.contains(name) || is_generation_member(name)) continue;
    if (std::ranges::find(known_members, name) != known_members.end()) continue;
    const bool says_nothing = value.is_null() || value == false || (value.is_structured() && value.empty());
    if (!says_nothing) unread.push_back(describe_member(name, value.dump(-1, ' ', true)));
  }
  return unread;
}

}  // namespace flexgen

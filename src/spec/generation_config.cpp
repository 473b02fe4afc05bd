#include "spec/generation_config.hpp"

#include <fmt/core.h>

#include <algorithm>
#include <array>
#include <limits>
#include <nlohmann/json.hpp>

#include "base/error.hpp"

namespace flexgen {
namespace {

using nlohmann::json;

// What a member does to a greedy choice of one sequence.
enum class Effect : std::uint8_t { any, sampling, beams };

struct Member {
  std::string_view name;
  Effect effect = Effect::any;
  double neutral = 0;  // the number that changes nothing
};

// Null, false, "" and empty lists change nothing either, whatever the member.
constexpr std::array members{Member{"repetition_penalty", Effect::any, 1},
                             Member{"encoder_repetition_penalty", Effect::any, 1},
                             Member{"no_repeat_ngram_size"},
                             Member{"encoder_no_repeat_ngram_size"},
                             Member{"suppress_tokens"},
                             Member{"begin_suppress_tokens"},
                             Member{"forced_bos_token_id", Effect::any, -1},
                             Member{"forced_eos_token_id", Effect::any, -1},
                             Member{"forced_decoder_ids"},
                             Member{"bad_words_ids"},
                             Member{"force_words_ids"},
                             Member{"constraints"},
                             Member{"sequence_bias"},
                             Member{"exponential_decay_length_penalty"},
                             Member{"min_new_tokens"},
                             Member{"min_length"},
                             Member{"max_new_tokens", Effect::any, -1},
                             Member{"max_length", Effect::any, 20},  // transformers' own default
                             Member{"max_time", Effect::any, -1},
                             Member{"stop_strings"},
                             Member{"num_beams", Effect::any, 1},
                             Member{"num_return_sequences", Effect::any, 1},
                             Member{"penalty_alpha"},
                             Member{"guidance_scale", Effect::any, 1},
                             Member{"dola_layers"},
                             Member{"token_healing"},
                             Member{"watermarking_config"},
                             Member{"remove_invalid_values"},
                             Member{"do_sample"},
                             Member{"temperature", Effect::sampling, 1},
                             Member{"top_k", Effect::sampling},
                             Member{"top_p", Effect::sampling, 1},
                             Member{"top_h", Effect::sampling, 1},
                             Member{"min_p", Effect::sampling},
                             Member{"typical_p", Effect::sampling, 1},
                             Member{"epsilon_cutoff", Effect::sampling},
                             Member{"eta_cutoff", Effect::sampling},
                             Member{"length_penalty", Effect::beams, 1},
                             Member{"early_stopping", Effect::beams},
                             Member{"num_beam_groups", Effect::beams, 1},
                             Member{"diversity_penalty", Effect::beams}};

// Of a generation_config.json alone: ids, caches, speculation (which gives the same tokens), forms of the answer.
constexpr auto harmless = std::to_array<std::string_view>({"_from_model_config",
                                                           "_commit_hash",
                                                           "transformers_version",
                                                           "eos_token_id",
                                                           "bos_token_id",
                                                           "pad_token_id",
                                                           "decoder_start_token_id",
                                                           "use_cache",
                                                           "cache_config",
                                                           "max_cache_len",
                                                           "return_legacy_cache",
                                                           "output_attentions",
                                                           "output_hidden_states",
                                                           "output_scores",
                                                           "output_logits",
                                                           "return_dict_in_generate",
                                                           "low_memory",
                                                           "prefill_chunk_size",
                                                           "compile_config",
                                                           "disable_compile",
                                                           "continuous_batching_config",
                                                           "is_assistant",
                                                           "use_mtp",
                                                           "num_assistant_tokens",
                                                           "num_assistant_tokens_schedule",
                                                           "assistant_confidence_threshold",
                                                           "prompt_lookup_num_tokens",
                                                           "max_matching_ngram_size",
                                                           "assistant_early_exit",
                                                           "assistant_lookbehind",
                                                           "target_lookbehind",
                                                           "assistant_ensemble_weight",
                                                           "speculation_type",
                                                           "cache_implementation",
                                                           "renormalize_logits"});

const Member* find_member(std::string_view name) {
  const auto* const found = std::ranges::find(members, name, &Member::name);
  return found == members.end() ? nullptr : found;
}

bool is_empty(const json& value) {
  return value.is_null() || value == false || ((value.is_array() || value.is_object()) && value.empty()) ||
         (value.is_string() && value.get_ref<const std::string&>().empty());
}

bool asks_for_beams(const json& object) {
  const auto found = object.find("num_beams");
  return found != object.end() && found->is_number() && found->get<double>() > 1;
}

bool changes_tokens(const Member& member, const json& value, const json& object) {
  if (is_empty(value)) return false;
  if (member.effect == Effect::sampling && object.value("do_sample", json()) != true) return false;
  if (member.effect == Effect::beams && !asks_for_beams(object)) return false;
  return !value.is_number() || value.get<double>() != member.neutral;
}

std::vector<std::int32_t> parse_eos_tokens(const json& value, const std::string& where) {
  std::vector<std::int32_t> tokens;
  if (value.is_null()) return tokens;
  for (const json& id : value.is_array() ? value : json::array({value})) {
    if (!id.is_number_integer() || id.get<double>() < 0 || id.get<double>() > 1e9)
      throw UserError(
          ExitCode::model, "cannot run the model of " + where,
          fmt::format("'eos_token_id' is {}, expected a token's number, a list of them or null", value.dump()),
          "Correct the file");
    const auto token = id.get<std::int32_t>();
    if (std::ranges::find(tokens, token) == tokens.end()) tokens.push_back(token);
  }
  return tokens;
}

}  // namespace

std::string describe_member(std::string_view name, const std::string& value) {
  constexpr std::size_t most = 40;
  return fmt::format("{} {}{}", name, value.substr(0, most), value.size() > most ? "..." : "");
}

bool is_generation_member(std::string_view name) {
  return find_member(name) != nullptr || std::ranges::find(harmless, name) != harmless.end();
}

GenerationConfig parse_generation_config(std::string_view text, const std::string& where, ConfigKind kind) {
  const json object = json::parse(text, nullptr, false);
  if (!object.is_object())
    throw UserError(ExitCode::model, "cannot read " + where, "it is not a JSON object",
                    "Fetch the file again from where the model came from, or take it out of the folder");
  GenerationConfig config;
  const bool is_own = kind == ConfigKind::generation;
  if (is_own || object.contains("eos_token_id"))
    config.eos_tokens = parse_eos_tokens(object.value("eos_token_id", json()), where);
  for (const auto& [name, value] : object.items()) {
    const Member* known = find_member(name);
    if (known == nullptr && (!is_own || std::ranges::find(harmless, name) != harmless.end())) continue;
    const Member unknown{name, Effect::any, std::numeric_limits<double>::quiet_NaN()};
    if (changes_tokens(known != nullptr ? *known : unknown, value, object))
      config.not_done.push_back(describe_member(name, value.dump(-1, ' ', true)));
  }
  return config;
}

}  // namespace flexgen

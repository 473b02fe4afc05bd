// How a sequence's tokens are chosen: what its row asks for, and what that comes to for its next token. Plain data;
// names have the meaning that OpenAI and vLLM give them.
//
// The order in which the fields act, and from what the chance comes, stand with the op (ops/sampling.hpp).
#pragma once

#include <cstdint>
#include <vector>

namespace flexgen {

/// What is added to a token's logit.
struct TokenBias {
  std::int32_t token = 0;
  float bias = 0.0F;
};

struct SamplingOptions {
  float temperature = 0.0F;           // 0: the likeliest token, whatever top_k, top_p, min_p and seed say
  float top_p = 1.0F;                 // (0, 1]: of the likeliest tokens the fewest that are together so likely
  std::int32_t top_k = 0;             // so many of the likeliest tokens; 0: all
  float min_p = 0.0F;                 // [0, 1]: tokens at least so likely, as a part of the likeliest one's probability
  float repetition_penalty = 1.0F;    // > 0: divides a positive, multiplies a negative logit of what stands in the text
  float presence_penalty = 0.0F;      // taken from the logit of what has been generated
  float frequency_penalty = 0.0F;     // the same, once for each time that it has been
  std::vector<TokenBias> logit_bias;  // no token twice
  std::uint64_t seed = 0;
  std::int32_t min_tokens = 0;     // before so many, no token is chosen that would end the sequence
  std::int32_t num_logprobs = -1;  // log-probabilities of the tokens, and of so many of the likeliest; -1: none

  /// Whether nothing is asked for but the likeliest tokens by the model's own logits.
  bool is_plain_greedy() const {
    return temperature == 0.0F && repetition_penalty == 1.0F && presence_penalty == 0.0F && frequency_penalty == 0.0F &&
           logit_bias.empty() && min_tokens == 0 && num_logprobs < 0;
  }
};

/// What changes a token's logit before the choice.
struct TokenAdjustment {
  std::int32_t token = 0;
  std::int32_t in_prompt = 0;  // how often it stands there
  std::int32_t in_output = 0;
  float bias = 0.0F;       // minus infinity: the token is banned
  float own_logit = 0.0F;  // out: as it came

  bool operator==(const TokenAdjustment&) const = default;
};

/// How one token is chosen: SamplingOptions, as far as the logits do not have it yet.
struct SampleRow {
  float temperature = 0.0F;
  float top_p = 1.0F;
  float min_p = 0.0F;
  float repetition_penalty = 1.0F;
  float presence_penalty = 0.0F;
  float frequency_penalty = 0.0F;
  std::int32_t top_k = 0;
  std::int32_t num_top = 0;           // alternatives that are asked for
  std::int32_t given_token = -1;      // a token that stands there already: it is taken as it is; -1: one is chosen
  std::int32_t first_adjustment = 0;  // of SampleRowsArgs::adjustment: the row's own, each of another token
  std::int32_t num_adjustments = 0;
  std::uint64_t seed = 0;
  std::uint64_t draw = 0;  // the token's index in its sequence; the upper half tells sequences of one seed apart

  bool operator==(const SampleRow&) const = default;
};

}  // namespace flexgen

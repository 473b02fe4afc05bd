// The arithmetic of sampling, the one definition for the reference, the host and the GPU: they choose the same token,
// bit for bit, of the same logits.
//
// Chance is counter-based: Philox4x32-10 of (seed, draw). Source: Salmon, Moraes, Dror and Shaw 2011, "Parallel random
// numbers: as easy as 1, 2, 3".
// A token's weight is a whole multiple of 2^-42 of the likeliest one's. Sums of weights are thereby exact, in whatever
// order and on however many threads they are made; a token that is less likely is never chosen.
//
// Pure functions. Sources that use them are compiled without contraction of products and sums (host), or call
// single_product (GPU).
#pragma once

#include <cstdint>
#include <cstring>

#include "ops/host_device.hpp"
#include "ops/sampling.hpp"

namespace flexgen {

inline constexpr int kWeightBits = 42;
/// Sums of so many weights fit 64 bits.
inline constexpr std::int64_t kMostSampledTokens = std::int64_t{1} << (63 - kWeightBits);

/// Rounded by itself: no compiler makes a multiply-add of it.
FLEXGEN_HOST_DEVICE float single_product(float a, float b) {
#ifdef __CUDA_ARCH__
  return __fmul_rn(a, b);
#else
  return a * b;
#endif
}

/// The upper 64 bits of a * b.
FLEXGEN_HOST_DEVICE std::uint64_t high_product(std::uint64_t a, std::uint64_t b) {
#ifdef __CUDA_ARCH__
  return __umul64hi(a, b);
#else
  __extension__ typedef unsigned __int128 Wide;
  return static_cast<std::uint64_t>((static_cast<Wide>(a) * b) >> 64);
#endif
}

struct PhiloxBlock {
  std::uint32_t word[4];
};

FLEXGEN_HOST_DEVICE PhiloxBlock philox4x32_10(PhiloxBlock counter, std::uint32_t key0, std::uint32_t key1) {
  for (int round = 0; round < 10; ++round) {
    const std::uint64_t product0 = std::uint64_t{0xD2511F53U} * counter.word[0];
    const std::uint64_t product1 = std::uint64_t{0xCD9E8D57U} * counter.word[2];
    counter = {
        {static_cast<std::uint32_t>(product1 >> 32) ^ counter.word[1] ^ key0, static_cast<std::uint32_t>(product1),
         static_cast<std::uint32_t>(product0 >> 32) ^ counter.word[3] ^ key1, static_cast<std::uint32_t>(product0)}};
    key0 += 0x9E3779B9U;
    key1 += 0xBB67AE85U;
  }
  return counter;
}

/// Uniform in [0, total), by (seed, draw) alone. total > 0.
FLEXGEN_HOST_DEVICE std::uint64_t draw_below(std::uint64_t total, std::uint64_t seed, std::uint64_t draw) {
  const PhiloxBlock counter{{static_cast<std::uint32_t>(draw), static_cast<std::uint32_t>(draw >> 32), 0, 0}};
  const PhiloxBlock block =
      philox4x32_10(counter, static_cast<std::uint32_t>(seed), static_cast<std::uint32_t>(seed >> 32));
  return high_product(static_cast<std::uint64_t>(block.word[1]) << 32 | block.word[0], total);
}

/// What the adjustment makes of its token's logit.
FLEXGEN_HOST_DEVICE float adjusted(float logit, const SampleRow& row, const TokenAdjustment& change) {
  if (change.in_prompt > 0 || change.in_output > 0)
    logit = logit > 0.0F ? logit / row.repetition_penalty : single_product(logit, row.repetition_penalty);
  if (change.in_output > 0) {
    logit = logit - single_product(row.frequency_penalty, static_cast<float>(change.in_output));
    logit = logit - row.presence_penalty;
  }
  return logit + change.bias;
}

/// Orders as the logit does, equal for both zeros. Of no NaN.
FLEXGEN_HOST_DEVICE std::int32_t order_key(float logit) {
  logit += 0.0F;
  std::int32_t bits = 0;
  memcpy(&bits, &logit, sizeof bits);
  return bits ^ ((bits >> 31) & 0x7fffffff);
}

/// exp((logit - largest) / temperature) to 2e-7, 0 below 2^-43. logit <= largest, which is finite; temperature > 0.
FLEXGEN_HOST_DEVICE float token_weight(float logit, float largest, float temperature) {
  constexpr float kLeast = -30.0F;  // exp of it is below 2^-43
  float x = (logit - largest) / temperature;
  x = x > kLeast ? x : kLeast;
  // x = n * ln 2 + r with |r| <= ln 2 / 2; adding this number rounds to a whole one.
  constexpr float kRounder = 12582912.0F;
  const float n = (single_product(x, 1.44269504F) + kRounder) - kRounder;
  const float r = (x - single_product(n, 0.693359375F)) - single_product(n, -2.12194440e-4F);
  float sum = 1.0F / 720.0F;  // the series of exp
  sum = single_product(sum, r) + 1.0F / 120.0F;
  sum = single_product(sum, r) + 1.0F / 24.0F;
  sum = single_product(sum, r) + 1.0F / 6.0F;
  sum = single_product(sum, r) + 0.5F;
  sum = single_product(sum, single_product(r, r)) + r;
  const std::int32_t exponent = (static_cast<std::int32_t>(n) + 127) << 23;
  float power = 0.0F;
  memcpy(&power, &exponent, sizeof power);
  const float weight = single_product(sum + 1.0F, power);
  return x > kLeast ? weight : 0.0F;
}

/// In units of 2^-42, cut off; weight in 0 .. 1. In halves, which vector units convert.
FLEXGEN_HOST_DEVICE std::uint64_t whole_weight(float weight) {
  constexpr int kHalf = kWeightBits / 2;
  constexpr auto kUnits = static_cast<float>(1 << kHalf);
  const float upper = single_product(weight, kUnits);
  const auto high = static_cast<std::int32_t>(upper);
  const auto low = static_cast<std::int32_t>(single_product(upper - static_cast<float>(high), kUnits));
  return (static_cast<std::uint64_t>(static_cast<std::uint32_t>(high)) << kHalf) + static_cast<std::uint32_t>(low);
}

/// What tokens must weigh together to be `top_p` of `total` > 0.
FLEXGEN_HOST_DEVICE std::uint64_t nucleus_weight(float top_p, std::uint64_t total) {
  const double part = static_cast<double>(top_p) * static_cast<double>(total);
  auto whole = static_cast<std::uint64_t>(part);
  if (static_cast<double>(whole) < part) ++whole;
  return whole < 1 ? 1 : whole > total ? total : whole;
}

}  // namespace flexgen

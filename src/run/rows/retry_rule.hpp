// When an answer is asked for again: --retry-if-not, --retries-per-row. Plain data.
//
// An answer that does not match is generated anew with another seed, made of the row's own and of how often it has been
// asked for: a job done twice gives the same answers. A row at temperature 0 would give the same answer for ever, and
// is refused; one whose answer is one of its `choices`, or nothing, is left alone.
#pragma once

#include <cstdint>
#include <memory>

#include "text/answer_pattern.hpp"

namespace flexgen {

struct RetryRule {
  std::shared_ptr<const AnswerPattern> pattern;  // null: every answer will do
  std::int32_t num_retries = 0;                  // of an answer, at most
};

/// The seed of the attempt after `num_attempts` others; the row's own for none.
constexpr std::uint64_t attempt_seed(std::uint64_t seed, std::int32_t num_attempts) {
  if (num_attempts == 0) return seed;
  std::uint64_t mixed = seed + 0x9E3779B97F4A7C15u * static_cast<std::uint64_t>(num_attempts);
  mixed = (mixed ^ (mixed >> 32)) * 0xD6E8FEB86659FD93u;
  mixed = (mixed ^ (mixed >> 29)) * 0xD6E8FEB86659FD93u;
  return mixed ^ (mixed >> 32);
}

}  // namespace flexgen

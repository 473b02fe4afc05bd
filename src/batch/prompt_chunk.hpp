// How prompts are cut. A token that comes alone is attended as one that its row has made: sparsely, where that is asked
// for, and from a compressed cache in another order of sums. So no part of a longer prompt is a single token.
#pragma once

#include <algorithm>
#include <cstdint>

#include "spec/block_limits.hpp"

namespace flexgen {

/// How many of a prompt's `left` unread tokens a budget of `most` reads, leaving no single one behind; 0: it has room
/// for a single one alone. With a budget of at least three tokens there is always a next part.
inline std::int32_t prompt_chunk(std::int32_t left, std::int32_t most) {
  const std::int32_t count = std::min({left, most, call_tokens});
  if (count == left || (count > 1 && left - count > 1)) return count;
  return count > 2 ? count - 1 : 0;
}

/// The same where nothing else would be read: of a budget too small for that, single tokens.
inline std::int32_t least_prompt_chunk(std::int32_t left, std::int32_t most) {
  const std::int32_t count = prompt_chunk(left, most);
  return count > 0 ? count : std::min(left, most);
}

}  // namespace flexgen

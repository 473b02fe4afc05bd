// A text that is longer than the model's positions, cut into windows that overlap.
//
// Pure arithmetic. Every token but the first is counted once: by the first window that has it behind its first place.
// Source: the sliding-window perplexity of the transformers documentation.
#pragma once

#include <cstdint>
#include <vector>

namespace flexgen {

struct ScoreWindow {
  std::int64_t first = 0;        // token at which it begins
  std::int32_t length = 0;       // tokens
  std::int32_t num_counted = 0;  // its last tokens, which no window before it has counted

  bool operator==(const ScoreWindow&) const = default;
};

/// Throws UserError (usage) for a stride that leaves tokens out.
/// @param window  >= 2
void check_stride(std::int32_t stride, std::int32_t window);

/// @param num_tokens  of the text; none of its windows counts anything where there are fewer than two: no windows
/// @param window      most tokens of a window, >= 2
/// @param stride      from one window's first token to the next one's, 1 .. window - 1
std::vector<ScoreWindow> cut_windows(std::int64_t num_tokens, std::int32_t window, std::int32_t stride);

}  // namespace flexgen

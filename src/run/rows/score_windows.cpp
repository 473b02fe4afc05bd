#include "run/rows/score_windows.hpp"

#include <fmt/core.h>

#include <algorithm>

#include "base/error.hpp"

namespace flexgen {

void check_stride(std::int32_t stride, std::int32_t window) {
  if (stride < window) return;
  throw UserError(ExitCode::usage, fmt::format("--stride {} leaves tokens out that no window predicts", stride),
                  fmt::format("a window has {} tokens and does not predict its first", window),
                  fmt::format("Use {} or less", window - 1));
}

std::vector<ScoreWindow> cut_windows(std::int64_t num_tokens, std::int32_t window, std::int32_t stride) {
  FLEXGEN_CHECK(window >= 2 && stride >= 1 && stride < window, "a window that leaves tokens out");
  std::vector<ScoreWindow> windows;
  std::int64_t counted = 1;  // tokens that are done; the first has nothing before it
  for (std::int64_t first = 0; counted < num_tokens; first += stride) {
    const std::int64_t end = std::min(first + window, num_tokens);
    windows.push_back({first, static_cast<std::int32_t>(end - first), static_cast<std::int32_t>(end - counted)});
    counted = end;
  }
  return windows;
}

}  // namespace flexgen

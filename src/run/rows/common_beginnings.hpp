// Counts how much of prompts need not be read by their rows, as earlier ones begin alike: whole blocks of tokens, as
// batch/prefix_tree.hpp cuts them. What a plan counts on; what rows really share depends on who waits beside whom.
//
// Keeps a number for every block. Single-threaded.
#pragma once

#include <cstdint>
#include <span>
#include <unordered_set>

namespace flexgen {

class CommonBeginnings {
 public:
  /// Tokens of the prompt in blocks of which the first up to the last stood in an earlier one.
  std::int64_t add(std::span<const std::int32_t> prompt);

 private:
  std::unordered_set<std::uint64_t> seen_;  // hashes of beginnings, block by block
};

}  // namespace flexgen

// How the rows that wait begin: a tree of blocks of tokens, in which those that begin alike have a way in common.
//
// Blocks are of prefix_grain tokens. A prompt's last two tokens are in none: every row has to read something itself. A
// block that one row alone has is not gone beyond until another comes to it, so that rows that share nothing cost a
// node each.
//
// Keeps a pointer to every row's prompt until it is removed. Calls take O(d log n) of n rows, d blocks deep, unless
// they say more. Deterministic. Single-threaded.
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <set>
#include <span>
#include <utility>
#include <vector>

#include "spec/block_limits.hpp"

namespace flexgen {

/// Tokens that a row whose prompt has so many may share: whole blocks, and at least two are left (prompt_chunk.hpp).
constexpr std::int32_t shareable_tokens(std::size_t prompt_tokens) {
  return prompt_tokens < 2 ? 0 : static_cast<std::int32_t>(prompt_tokens - 2) / prefix_grain * prefix_grain;
}

class PrefixTree {
 public:
  using Arrival = std::int64_t;
  using Tokens = std::span<const std::int32_t>;
  using Ordered = std::set<std::pair<std::int32_t, Arrival>>;  // rows, by positions

  PrefixTree() = default;
  PrefixTree(const PrefixTree&) = delete;
  PrefixTree& operator=(const PrefixTree&) = delete;

  /// `prompt` must stay where it is until the row is removed.
  void add(Arrival row, std::int32_t positions, Tokens prompt);
  void remove(Arrival row);

  /// Rows that begin with these tokens, whole blocks of them, by the positions that they need; null: none does.
  const Ordered* rows_that_begin_with(Tokens tokens) const;
  /// Where the beginning of a row that at least one other has in common with it is to be cut, ascending: of the rows
  /// that have a piece's first block, more than half have all of it. Empty: nothing is common.
  std::vector<std::int32_t> cuts(Arrival row) const;

 private:
  struct Node;
  struct ByTokens {
    using is_transparent = void;
    bool operator()(Tokens one, Tokens other) const;
  };
  using Children = std::map<std::vector<std::int32_t>, std::unique_ptr<Node>, ByTokens>;
  struct Node {
    Ordered rows;
    Children children;
  };
  struct Row {
    std::int32_t positions = 0;
    Tokens prompt;
  };

  static bool has_block(Tokens prompt, std::size_t depth);
  static Tokens block(Tokens prompt, std::size_t depth);
  static void insert(Children& among, Arrival row, const Row& what, std::size_t depth);

  std::map<Arrival, Row> rows_;
  Children roots_;
};

}  // namespace flexgen

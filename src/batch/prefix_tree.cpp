#include "batch/prefix_tree.hpp"

#include <algorithm>

#include "base/error.hpp"

namespace flexgen {

bool PrefixTree::ByTokens::operator()(Tokens one, Tokens other) const {
  return std::ranges::lexicographical_compare(one, other);
}

bool PrefixTree::has_block(Tokens prompt, std::size_t depth) {
  return static_cast<std::size_t>(shareable_tokens(prompt.size())) > depth * prefix_grain;
}

PrefixTree::Tokens PrefixTree::block(Tokens prompt, std::size_t depth) {
  return prompt.subspan(depth * prefix_grain, prefix_grain);
}

void PrefixTree::add(Arrival row, std::int32_t positions, Tokens prompt) {
  const auto [at, is_new] = rows_.emplace(row, Row{positions, prompt});
  FLEXGEN_CHECK(is_new, "a row waits twice");
  Children* among = &roots_;
  for (std::size_t depth = 0; has_block(prompt, depth); ++depth) {
    insert(*among, row, at->second, depth);
    Node& node = *among->find(block(prompt, depth))->second;
    if (node.rows.size() == 1) return;
    if (node.rows.size() == 2) {  // the one that was there alone has yet to go on
      const Arrival other = node.rows.begin()->second == row ? node.rows.rbegin()->second : node.rows.begin()->second;
      const Row& others = rows_.at(other);
      if (has_block(others.prompt, depth + 1)) insert(node.children, other, others, depth + 1);
    }
    among = &node.children;
  }
}

// Where it already is, it stays.
void PrefixTree::insert(Children& among, Arrival row, const Row& what, std::size_t depth) {
  const Tokens tokens = block(what.prompt, depth);
  auto at = among.find(tokens);
  if (at == among.end()) at = among.emplace(std::vector(tokens.begin(), tokens.end()), std::make_unique<Node>()).first;
  at->second->rows.emplace(what.positions, row);
}

void PrefixTree::remove(Arrival row) {
  const Row what = rows_.at(row);
  rows_.erase(row);
  Children* among = &roots_;
  for (std::size_t depth = 0; has_block(what.prompt, depth); ++depth) {
    const auto at = among->find(block(what.prompt, depth));
    if (at == among->end() || at->second->rows.erase({what.positions, row}) == 0) return;
    if (at->second->rows.empty()) {
      among->erase(at);
      return;
    }
    among = &at->second->children;
  }
}

const PrefixTree::Ordered* PrefixTree::rows_that_begin_with(Tokens tokens) const {
  const Children* among = &roots_;
  const Node* node = nullptr;
  for (std::size_t depth = 0; depth * prefix_grain < tokens.size(); ++depth) {
    const auto at = among->find(block(tokens, depth));
    if (at == among->end()) return nullptr;
    node = at->second.get();
    if (node->rows.size() == 1) {  // it may not have gone further
      const Tokens prompt = rows_.at(node->rows.begin()->second).prompt;
      const bool begins = static_cast<std::size_t>(shareable_tokens(prompt.size())) >= tokens.size() &&
                          std::ranges::equal(prompt.first(tokens.size()), tokens);
      return begins ? &node->rows : nullptr;
    }
    among = &node->children;
  }
  return node == nullptr || node->rows.empty() ? nullptr : &node->rows;
}

std::vector<std::int32_t> PrefixTree::cuts(Arrival row) const {
  std::vector<std::int32_t> cuts;
  const auto found = rows_.find(row);
  if (found == rows_.end()) return cuts;
  const Tokens prompt = found->second.prompt;
  const Children* among = &roots_;
  std::size_t with_first = 0;  // rows that have the piece's first block
  std::size_t depth = 0;
  for (; has_block(prompt, depth); ++depth) {
    const auto at = among->find(block(prompt, depth));
    const std::size_t count = at == among->end() ? 0 : at->second->rows.size();
    if (count < 2) break;
    if (depth > 0 && 2 * count <= with_first) cuts.push_back(static_cast<std::int32_t>(depth) * prefix_grain);
    if (depth == 0 || 2 * count <= with_first) with_first = count;
    among = &at->second->children;
  }
  if (depth > 0) cuts.push_back(static_cast<std::int32_t>(depth) * prefix_grain);
  return cuts;
}

}  // namespace flexgen

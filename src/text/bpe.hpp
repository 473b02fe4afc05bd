// Byte-pair encoding of one word: merges neighbouring tokens by rank until no merge applies.
//
// Owns the merge table and a bounded cache of words. Thread-safe after construction (the cache locks).
// Source: Sennrich et al. 2016, in the byte-level form of GPT-2: the lowest rank first, the leftmost among equals.
#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <string_view>
#include <vector>

namespace flexgen {

/// `left` `right` -> `merged`; the position in the list is the rank.
struct Merge {
  std::int32_t left;
  std::int32_t right;
  std::int32_t merged;
};

class Bpe {
 public:
  /// @param byte_ids   the token of each single byte; -1: there is none
  /// @param merges     by falling priority; of equal pairs the later one counts
  /// @param unk_id     stands for bytes without a token; -1: they are left out
  /// @param fuses_unk  once for a run of such bytes
  Bpe(const std::array<std::int32_t, 256>& byte_ids, const std::vector<Merge>& merges, std::int32_t unk_id = -1,
      bool fuses_unk = false);
  Bpe(Bpe&&) noexcept;
  Bpe& operator=(Bpe&&) noexcept;
  ~Bpe();

  /// Appends the tokens of `word`. O(n log n) in its bytes.
  void encode_word(std::string_view word, std::vector<std::int32_t>& ids) const;

 private:
  class MergeTable;
  class WordCache;

  void merge_word(std::string_view word, std::vector<std::int32_t>& ids) const;

  std::array<std::int32_t, 256> byte_ids_;
  std::int32_t unk_id_;
  bool fuses_unk_;
  std::unique_ptr<const MergeTable> table_;
  std::unique_ptr<WordCache> cache_;
};

}  // namespace flexgen

#include "text/bpe.hpp"

#include <bit>
#include <mutex>
#include <queue>
#include <string>
#include <unordered_map>

namespace flexgen {
namespace {

// The tokens of a word so far are a list, linked through the positions of their first bytes.
struct Symbol {
  std::int32_t id;  // -1: swallowed by its left neighbour
  std::int32_t previous;
  std::int32_t next;
};

// Two neighbours that may be merged.
struct Candidate {
  std::int32_t rank;
  std::int32_t position;  // of the left token
  std::int32_t left;      // both tokens as they were: a candidate is stale once either has changed
  std::int32_t right;
  std::int32_t merged;
  bool operator<(const Candidate& other) const {  // std::priority_queue gives the greatest first
    return rank != other.rank ? rank > other.rank : position > other.position;
  }
};

}  // namespace

// Pair of tokens -> rank and result. Open addressing: one cache line per look-up, most of which miss.
class Bpe::MergeTable {
 public:
  struct Entry {
    std::uint64_t pair = empty;
    std::int32_t rank = 0;
    std::int32_t merged = 0;
  };

  explicit MergeTable(const std::vector<Merge>& merges)
      : entries_(std::bit_ceil(merges.size() * 2 + 1)), mask_(entries_.size() - 1) {
    for (std::size_t rank = 0; rank < merges.size(); ++rank) {
      const Merge& merge = merges[rank];
      const std::uint64_t pair = key(merge.left, merge.right);
      entries_[slot(pair)] = {pair, static_cast<std::int32_t>(rank), merge.merged};
    }
  }

  /// Null when the pair does not merge.
  const Entry* find(std::int32_t left, std::int32_t right) const {
    const Entry& entry = entries_[slot(key(left, right))];
    return entry.pair == empty ? nullptr : &entry;
  }

 private:
  static constexpr std::uint64_t empty = ~std::uint64_t{0};  // no pair: ids are not negative

  static std::uint64_t key(std::int32_t left, std::int32_t right) {
    return static_cast<std::uint64_t>(static_cast<std::uint32_t>(left)) << 32 | static_cast<std::uint32_t>(right);
  }
  // The slot that holds the pair, or the free one where it would go.
  std::size_t slot(std::uint64_t pair) const {
    std::size_t at = (pair * 0x9E3779B97F4A7C15u) >> 32 & mask_;  // Fibonacci hashing
    while (entries_[at].pair != empty && entries_[at].pair != pair) at = (at + 1) & mask_;
    return at;
  }

  std::vector<Entry> entries_;
  std::size_t mask_;
};

// Words seen before. Shards keep threads out of each other's way; a full shard takes no more words, which is good
// enough for natural text (the frequent words come first) and bounds the memory.
class Bpe::WordCache {
 public:
  static constexpr std::size_t max_word_bytes = 48;

  bool append(std::string_view word, std::vector<std::int32_t>& ids) {
    Shard& shard = shard_of(word);
    const std::lock_guard lock(shard.mutex);
    const auto found = shard.words.find(word);
    if (found == shard.words.end()) return false;
    ids.insert(ids.end(), found->second.begin(), found->second.end());
    return true;
  }

  void add(std::string_view word, const std::int32_t* begin, const std::int32_t* end) {
    Shard& shard = shard_of(word);
    const std::lock_guard lock(shard.mutex);
    if (shard.words.size() < max_words_per_shard) shard.words.try_emplace(std::string(word), begin, end);
  }

 private:
  static constexpr std::size_t num_shards = 16;
  static constexpr std::size_t max_words_per_shard = 4096;

  struct Hash {
    using is_transparent = void;
    std::size_t operator()(std::string_view text) const { return std::hash<std::string_view>{}(text); }
  };
  struct Shard {
    std::mutex mutex;
    std::unordered_map<std::string, std::vector<std::int32_t>, Hash, std::equal_to<>> words;
  };

  Shard& shard_of(std::string_view word) {
    const auto last = static_cast<unsigned char>(word.back());
    return shards_[(last + word.size()) % num_shards];
  }

  std::array<Shard, num_shards> shards_;
};

Bpe::Bpe(const std::array<std::int32_t, 256>& byte_ids, const std::vector<Merge>& merges, std::int32_t unk_id,
         bool fuses_unk)
    : byte_ids_(byte_ids),
      unk_id_(unk_id),
      fuses_unk_(fuses_unk),
      table_(std::make_unique<MergeTable>(merges)),
      cache_(std::make_unique<WordCache>()) {}
Bpe::Bpe(Bpe&&) noexcept = default;
Bpe& Bpe::operator=(Bpe&&) noexcept = default;
Bpe::~Bpe() = default;

void Bpe::encode_word(std::string_view word, std::vector<std::int32_t>& ids) const {
  if (word.empty()) return;
  if (word.size() > WordCache::max_word_bytes) return merge_word(word, ids);
  if (cache_->append(word, ids)) return;
  const std::size_t begin = ids.size();
  merge_word(word, ids);
  cache_->add(word, ids.data() + begin, ids.data() + ids.size());
}

void Bpe::merge_word(std::string_view word, std::vector<std::int32_t>& ids) const {
  std::vector<Symbol> symbols;
  symbols.reserve(word.size());
  bool after_unk = false;
  for (const char c : word) {
    const std::int32_t id = byte_ids_[static_cast<std::uint8_t>(c)];
    const bool is_unk = id < 0;
    if (!is_unk || (unk_id_ >= 0 && !(fuses_unk_ && after_unk))) symbols.push_back({is_unk ? unk_id_ : id, 0, 0});
    after_unk = is_unk;
  }
  if (symbols.empty()) return;
  const auto length = static_cast<std::int32_t>(symbols.size());
  std::vector<Candidate> storage;
  storage.reserve(word.size());
  std::priority_queue<Candidate> candidates({}, std::move(storage));
  auto propose = [&](std::int32_t position) {
    const std::int32_t next = position < 0 ? -1 : symbols[position].next;
    if (next < 0) return;
    const std::int32_t left = symbols[position].id;
    const std::int32_t right = symbols[next].id;
    if (const auto* entry = table_->find(left, right)) {
      candidates.push({entry->rank, position, left, right, entry->merged});
    }
  };

  for (std::int32_t i = 0; i < length; ++i) {
    symbols[i].previous = i - 1;
    symbols[i].next = i + 1 < length ? i + 1 : -1;
  }
  for (std::int32_t i = 0; i < length; ++i) propose(i);

  while (!candidates.empty()) {
    const Candidate best = candidates.top();
    candidates.pop();
    Symbol& left = symbols[best.position];
    if (left.id != best.left || left.next < 0 || symbols[left.next].id != best.right) continue;
    Symbol& right = symbols[left.next];
    left.id = best.merged;
    left.next = right.next;
    right.id = -1;
    if (left.next >= 0) symbols[left.next].previous = best.position;
    propose(left.previous);
    propose(best.position);
  }
  for (std::int32_t i = 0; i >= 0; i = symbols[i].next) ids.push_back(symbols[i].id);
}

}  // namespace flexgen

// The ids of a job's rows, without the ids: of each a hash of 128 bits, and where it was first used.
//
// 21 bytes a slot, 85 % of the slots used at most: a million ids take 24 to 36 MB. That two ids of a job meet in 128
// bits does not happen. Single-threaded.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string_view>
#include <vector>

namespace flexgen {

class KnownIds {
 public:
  /// Keeps the id, unless it is known: then where it was first used.
  /// @param where  a number below 2^40
  std::optional<std::uint64_t> add(std::string_view id, std::uint64_t where);
  bool contains(std::string_view id) const;

  std::size_t size() const { return num_ids_; }
  std::size_t num_bytes() const { return hashes_.capacity() * sizeof(Hash) + places_.capacity() * sizeof(Place); }

 private:
  struct Hash {
    std::uint64_t low = 0, high = 0;  // both 0: the slot is free
    bool operator==(const Hash&) const = default;
  };
  using Place = std::array<std::uint8_t, 5>;

  static Hash hash_of(std::string_view id);
  std::size_t find(const Hash& hash) const;
  void grow();

  std::vector<Hash> hashes_;
  std::vector<Place> places_;
  std::size_t num_ids_ = 0;
};

}  // namespace flexgen

#include "job/input/known_ids.hpp"

#include <algorithm>
#include <bit>
#include <cstring>
#include <utility>

#include "base/error.hpp"

namespace flexgen {
namespace {

constexpr std::size_t first_slots = 1024;
constexpr double most_used = 0.85;

// Both halves of a product of 128 bits, folded: every bit of a word reaches all of them.
std::uint64_t fold(std::uint64_t a, std::uint64_t b) {
  const auto product = static_cast<unsigned __int128>(a) * b;
  return static_cast<std::uint64_t>(product) ^ static_cast<std::uint64_t>(product >> 64);
}

// Odd numbers without a pattern: the fractions of square roots of primes.
constexpr std::uint64_t root2 = 0x6A09E667F3BCC909u;
constexpr std::uint64_t root3 = 0xBB67AE8584CAA73Bu;
constexpr std::uint64_t root5 = 0x3C6EF372FE94F82Bu;
constexpr std::uint64_t root7 = 0xA54FF53A5F1D36F1u;

}  // namespace

KnownIds::Hash KnownIds::hash_of(std::string_view id) {
  std::uint64_t low = root2 ^ id.size(), high = root3 + id.size();
  while (!id.empty()) {
    std::uint64_t word = 0;
    const std::size_t count = std::min(id.size(), sizeof(word));
    std::memcpy(&word, id.data(), count);
    low = fold(low ^ word, root5) + word;
    high = fold(high + std::rotl(word, 29), root7) ^ std::rotl(low, 17);
    id.remove_prefix(count);
  }
  Hash hash{fold(low ^ root7, high | 1), fold(high ^ root5, low | 1)};
  if (hash == Hash{}) hash.low = 1;
  return hash;
}

std::optional<std::uint64_t> KnownIds::add(std::string_view id, std::uint64_t where) {
  FLEXGEN_CHECK(where >> 40 == 0, "a row lies too far in its input");
  if (static_cast<double>(num_ids_ + 1) > most_used * static_cast<double>(hashes_.size())) grow();
  const Hash hash = hash_of(id);
  const std::size_t slot = find(hash);
  Place& place = places_[slot];
  if (hashes_[slot] != Hash{}) {
    std::uint64_t first = 0;
    for (std::size_t i = 0; i < place.size(); ++i) first |= static_cast<std::uint64_t>(place[i]) << (8 * i);
    return first;
  }
  hashes_[slot] = hash;
  for (std::size_t i = 0; i < place.size(); ++i) place[i] = static_cast<std::uint8_t>(where >> (8 * i));
  ++num_ids_;
  return std::nullopt;
}

bool KnownIds::contains(std::string_view id) const { return !hashes_.empty() && hashes_[find(hash_of(id))] != Hash{}; }

/// The slot that has it, or would take it.
std::size_t KnownIds::find(const Hash& hash) const {
  // The upper half of a product is a number below the second factor, as evenly spread as the first.
  auto slot = static_cast<std::size_t>((static_cast<unsigned __int128>(hash.low) * hashes_.size()) >> 64);
  while (hashes_[slot] != Hash{} && hashes_[slot] != hash) slot = slot + 1 == hashes_.size() ? 0 : slot + 1;
  return slot;
}

void KnownIds::grow() {
  const std::size_t num_slots = hashes_.empty() ? first_slots : hashes_.size() + hashes_.size() / 2;
  const std::vector<Hash> hashes = std::exchange(hashes_, std::vector<Hash>(num_slots));
  const std::vector<Place> places = std::exchange(places_, std::vector<Place>(num_slots));
  for (std::size_t i = 0; i < hashes.size(); ++i) {
    if (hashes[i] == Hash{}) continue;
    const std::size_t slot = find(hashes[i]);
    hashes_[slot] = hashes[i];
    places_[slot] = places[i];
  }
}

}  // namespace flexgen

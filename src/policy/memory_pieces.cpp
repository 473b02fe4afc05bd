#include "policy/memory_pieces.hpp"

#include <fmt/core.h>

#include "base/error.hpp"

namespace flexgen {
namespace {

struct Name {
  std::string_view text;
  MemoryUse use = MemoryUse::staging;
};

// In the order of Piece.
constexpr std::array<Name, num_pieces> names{{
    {"weights", MemoryUse::weights},
    {"the KV cache", MemoryUse::cache},
    {"hidden states", MemoryUse::hidden},
    {"weight slots"},
    {"cache slots"},
    {"hidden slots"},
    {"hidden states of decode"},
    {"the plain layer"},
    {"the workspace", MemoryUse::workspace},
    {"scratch of the host's threads", MemoryUse::workspace},
    {"index arrays"},
    {"cache tables"},
    {"sampled tokens"},
    {"scores"},
    {"result tokens"},
    {"result scores"},
    {"alternatives"},
    {"result alternatives"},
    {"queries, keys and values"},
    {"attention of the host"},
    {"disk staging of weights"},
    {"disk staging of the cache"},
    {"disk staging of hidden states"},
    {"disk bounces of weights"},
    {"disk bounces of the cache"},
    {"disk bounces of hidden states"},
    {"incomplete blocks of the cache"},
    {"received hidden states"},
    {"sent hidden states"},
}};
static_assert(static_cast<std::size_t>(Piece::sent_hidden) + 1 == num_pieces);

}  // namespace

std::string_view piece_name(Piece piece) { return names[static_cast<std::size_t>(piece)].text; }

MemoryUse use_of(Piece piece) { return names[static_cast<std::size_t>(piece)].use; }

void MemoryPieces::add(Piece piece, TierKind tier, const PlannedPiece& planned) {
  if (planned.content_bytes() == 0) return;
  FLEXGEN_CHECK(!has(piece, tier), fmt::format("{} on {} are planned twice", piece_name(piece), tier_name(tier)));
  pieces_[static_cast<std::size_t>(piece)][static_cast<std::size_t>(tier)] = planned;
}

std::uint64_t MemoryPieces::taken_bytes(TierKind tier) const {
  std::uint64_t total = 0;
  for (const auto& tiers : pieces_) total += tiers[static_cast<std::size_t>(tier)].taken_bytes();
  return total;
}

std::uint64_t MemoryPieces::taken_bytes(TierKind tier, MemoryUse use) const {
  std::uint64_t total = 0;
  for (std::size_t p = 0; p < num_pieces; ++p) {
    const PlannedPiece& piece = pieces_[p][static_cast<std::size_t>(tier)];
    if (use == names[p].use) total += piece.content_bytes();
    if (use == MemoryUse::staging) total += piece.taken_bytes() - piece.content_bytes();
  }
  return total;
}

}  // namespace flexgen

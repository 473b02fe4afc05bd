// The ceiling of all that streams through host memory: reading a piece of it at full width, fetching ahead.
#pragma once

#include <cstddef>
#include <cstdint>

namespace flexgen {

inline constexpr std::int64_t kPiece = 4 << 20;

#if defined(__x86_64__)
[[gnu::target_clones("default", "avx2", "arch=x86-64-v4")]]
#endif
inline std::uint64_t
read_piece(const std::byte* data) {
  typedef std::uint64_t Words __attribute__((vector_size(64)));
  const auto* words = reinterpret_cast<const Words*>(data);
  Words a{}, b{}, c{}, d{};
  for (std::int64_t i = 0; i < kPiece / 64; i += 4) {
    for (int line = 0; line < 4; ++line) __builtin_prefetch(words + i + line + 128, 0, 2);  // past the page's end
    a += words[i], b += words[i + 1], c += words[i + 2], d += words[i + 3];
  }
  a += b + c + d;
  return a[0] + a[1] + a[2] + a[3] + a[4] + a[5] + a[6] + a[7];
}

}  // namespace flexgen

#include "job/row_tally.hpp"

#include <algorithm>
#include <array>

namespace flexgen {
namespace {

/// The least round width of which `most_bins` bins reach from `least` to `most`.
std::uint64_t bin_width(std::uint64_t least, std::uint64_t most, std::uint64_t most_bins) {
  for (std::uint64_t power = 1;; power *= 10)
    for (const std::uint64_t factor : std::array<std::uint64_t, 3>{1, 2, 5}) {
      const std::uint64_t width = factor * power;
      if (most / width - least / width < most_bins) return width;
    }
}

}  // namespace

void LengthTally::add(std::uint64_t num_tokens) {
  if (num_tokens >= counts_.size()) counts_.resize(num_tokens + 1);
  ++counts_[num_tokens];
}

LengthDistribution LengthTally::distribution() const {
  LengthDistribution d;
  const auto first = std::ranges::find_if(counts_, [](std::uint64_t count) { return count > 0; });
  if (first == counts_.end()) return d;
  d.least = static_cast<std::uint64_t>(first - counts_.begin());
  d.most = counts_.size() - 1;  // it has grown for the longest
  d.bin_tokens = bin_width(d.least, d.most, most_bins);
  d.first = d.least / d.bin_tokens * d.bin_tokens;
  d.bins.resize((d.most - d.first) / d.bin_tokens + 1);
  double sum = 0;
  for (std::uint64_t length = d.least; length <= d.most; ++length) {
    d.count += counts_[length];
    d.bins[(length - d.first) / d.bin_tokens] += counts_[length];
    sum += static_cast<double>(length) * static_cast<double>(counts_[length]);
  }
  d.mean = sum / static_cast<double>(d.count);
  return d;
}

}  // namespace flexgen

#include "job/recent_pace.hpp"

#include <algorithm>

namespace flexgen {
namespace {

constexpr double window_seconds = 10;
constexpr double reading_seconds = 0.5;

}  // namespace

void RecentPace::add(double seconds, std::uint64_t num_tokens, const TotalsByResource& totals) {
  const std::size_t count = readings_.size();
  if (count >= 2 && readings_.back().seconds - readings_[count - 2].seconds < reading_seconds) readings_.pop_back();
  readings_.push_back({seconds, num_tokens, totals});
  // The oldest stays while the next is too young to cover the window.
  while (readings_.size() > 2 && seconds - readings_[1].seconds >= window_seconds) readings_.pop_front();
}

double RecentPace::tokens_per_second() const {
  if (span_seconds() <= 0) return 0;
  return static_cast<double>(readings_.back().num_tokens - readings_.front().num_tokens) / span_seconds();
}

std::optional<RecentPace::Busiest> RecentPace::busiest() const {
  if (span_seconds() <= 0) return std::nullopt;
  std::optional<Busiest> most;
  for (std::size_t r = 0; r < num_resources; ++r) {
    const std::uint64_t occupied_ns = readings_.back().totals[r].occupied_ns - readings_.front().totals[r].occupied_ns;
    const double fraction = std::min(1.0, static_cast<double>(occupied_ns) * 1e-9 / span_seconds());
    if (fraction > 0 && (!most || fraction > most->fraction)) most = Busiest{static_cast<Resource>(r), fraction};
  }
  return most;
}

}  // namespace flexgen

#include "job/activity.hpp"

#include <algorithm>

namespace flexgen {

void ActivitySeries::add(double seconds, const TotalsByResource& totals, std::uint64_t num_rows,
                         std::uint64_t num_tokens) {
  readings_.push_back({seconds, totals, num_rows, num_tokens});
  if (readings_.size() <= most_intervals) return;
  // Every other one stays, the first among them; the last is read anew when the next is due.
  for (std::size_t i = 0; 2 * i < readings_.size(); ++i) readings_[i] = readings_[2 * i];
  readings_.resize((readings_.size() + 1) / 2);
  interval_seconds_ *= 2;
}

void ActivitySeries::end(double seconds, const TotalsByResource& totals, std::uint64_t num_rows,
                         std::uint64_t num_tokens) {
  if (readings_.size() > 1 && seconds - readings_.back().seconds < interval_seconds_ / 2) readings_.pop_back();
  add(seconds, totals, num_rows, num_tokens);
}

std::vector<double> ActivitySeries::busy_of(std::size_t resource) const {
  const std::size_t count = readings_.size() - 1;
  std::vector<double> busy(count);
  double ahead_seconds = 0;
  for (std::size_t i = count; i-- > 0;) {
    const double length = readings_[i + 1].seconds - readings_[i].seconds;
    const std::uint64_t occupied_ns =
        readings_[i + 1].totals[resource].occupied_ns - readings_[i].totals[resource].occupied_ns;
    const double held = static_cast<double>(occupied_ns) * 1e-9 + ahead_seconds;
    const double here = std::min(held, length);
    ahead_seconds = held - here;
    busy[i] = length > 0 ? here / length : 0;
  }
  return busy;
}

ActivityReport ActivitySeries::report() const {
  ActivityReport report;
  if (readings_.size() < 2) return report;
  for (const Reading& reading : readings_) report.seconds.push_back(reading.seconds - readings_.front().seconds);
  for (std::size_t r = 0; r < num_resources; ++r) {
    if (readings_.back().totals[r].occupied_ns == readings_.front().totals[r].occupied_ns) continue;
    report.busy[std::string(resource_name(static_cast<Resource>(r)))] = busy_of(r);
  }
  for (std::size_t i = 0; i + 1 < readings_.size(); ++i) {
    report.rows.push_back(readings_[i + 1].num_rows - readings_[i].num_rows);
    report.tokens.push_back(readings_[i + 1].num_tokens - readings_[i].num_tokens);
  }
  return report;
}

}  // namespace flexgen

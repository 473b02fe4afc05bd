#include "policy/op_costs.hpp"

#include <algorithm>
#include <cmath>

namespace flexgen {
namespace {

using RatePoint = std::pair<double, double>;

/// `at` between the two points that enclose it, on a line.
double between(const RatePoint& low, const RatePoint& high, double at) {
  return low.second + (high.second - low.second) * (at - low.first) / (high.first - low.first);
}

template <class Entry>
auto place_of(std::vector<Entry>& entries, double key) {
  return std::ranges::lower_bound(entries, key, {}, &Entry::first);
}

}  // namespace

void RateCurve::add(double size, double rate) {
  if (size <= 0 || rate <= 0) return;
  const double key = std::log(size);
  const auto at = place_of(points_, key);
  if (at != points_.end() && at->first == key) at->second = std::log(rate);
  else points_.insert(at, {key, std::log(rate)});
}

double RateCurve::at(double size) const {
  if (points_.empty()) return 0;
  const double key = std::log(std::max(size, 1e-9));
  const auto high = std::ranges::lower_bound(points_, key, {}, &RatePoint::first);
  if (high == points_.begin()) return std::exp(high->second);
  if (high == points_.end()) return std::exp(points_.back().second);
  return std::exp(between(*std::prev(high), *high, key));
}

void RateCurve::scale(double factor) {
  for (RatePoint& point : points_) point.second += std::log(factor);
}

void RateTable::add(double size, double other, double rate) {
  if (size <= 0 || other <= 0 || rate <= 0) return;
  const double key = std::log(other);
  auto at = place_of(curves_, key);
  if (at == curves_.end() || at->first != key) at = curves_.insert(at, {key, {}});
  at->second.add(size, rate);
}

double RateTable::at(double size, double other) const {
  if (curves_.empty()) return 0;
  const double key = std::log(std::max(other, 1e-9));
  const auto high = std::ranges::lower_bound(curves_, key, {}, &std::pair<double, RateCurve>::first);
  if (high == curves_.begin()) return high->second.at(size);
  if (high == curves_.end()) return curves_.back().second.at(size);
  const auto low = std::prev(high);
  const auto rate_of = [&](const auto& curve) { return RatePoint{curve.first, std::log(curve.second.at(size))}; };
  return std::exp(between(rate_of(*low), rate_of(*high), key));
}

void RateTable::scale(double factor) {
  for (auto& [other, curve] : curves_) curve.scale(factor);
}

const RateTable& OpCosts::products(const QuantFormat& stored) const {
  const RateTable& wanted = stored.bits == 4 ? coded_products : stored.bits == 8 ? byte_products : plain_products;
  return wanted.empty() ? plain_products : wanted;
}

OpCosts op_costs(const OpRates& ops, const Policy& policy, double share) {
  OpCosts costs;
  const auto fits = [&](const auto& rate) { return rate.dtype == policy.dtype; };
  for (const ProductRate& rate : ops.products)
    if (fits(rate))
      (rate.bits == 4   ? costs.coded_products
       : rate.bits == 8 ? costs.byte_products
                        : costs.plain_products)
          .add(static_cast<double>(rate.tokens), static_cast<double>(rate.size), share * rate.operations_per_second);
  for (const CacheReadRate& rate : ops.cache_reads)
    if (fits(rate) && rate.bits == policy.cache_format.bits)
      costs.cache_reads.add(static_cast<double>(rate.positions), share * rate.bytes_per_second);
  for (const PromptRate& rate : ops.prompts)
    if (fits(rate) && rate.bits == policy.cache_format.bits) {
      costs.prompts.add(static_cast<double>(rate.tokens), share * rate.operations_per_second);
      costs.cache_writes.add(static_cast<double>(rate.tokens), share * rate.written_elements_per_second);
    }
  for (const NormRate& rate : ops.norms)
    if (fits(rate))
      costs.norms.add(static_cast<double>(rate.tokens), static_cast<double>(rate.size),
                      share * rate.elements_per_second);
  return costs;
}

std::shared_ptr<const StageRates> stage_rates(const HardwareProfile& profile, const Policy& policy, bool on_gpu,
                                              const MachineShare& share) {
  const OpRates* of_gpu = on_gpu && profile.gpu && profile.gpu->ops ? &*profile.gpu->ops : nullptr;
  if (!profile.memory.ops && !of_gpu) return nullptr;
  auto rates = std::make_shared<StageRates>();
  if (profile.memory.ops) rates->host = op_costs(*profile.memory.ops, policy, share.processors);
  if (!on_gpu) rates->device = rates->host;
  else if (of_gpu) rates->device = op_costs(*of_gpu, policy, 1);
  return rates;
}

}  // namespace flexgen

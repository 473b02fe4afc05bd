// What the ops of one device cost a stage under its policy's types: rates of a profile, looked up at the sizes at hand.
//
// Between measured sizes rates are interpolated in the logarithm of both; beyond them the last one holds. Pure
// arithmetic; immutable; any thread.
#pragma once

#include <algorithm>
#include <memory>
#include <utility>
#include <vector>

#include "base/fields.hpp"
#include "spec/hardware_profile.hpp"
#include "spec/policy.hpp"

namespace flexgen {

/// Rates by a size.
class RateCurve {
 public:
  void add(double size, double rate);
  bool empty() const { return points_.empty(); }
  /// 0 where nothing was measured.
  double at(double size) const;
  /// All rates, times so much.
  void scale(double factor);

 private:
  std::vector<std::pair<double, double>> points_;  // logarithms of both, by size
};

/// One op's rates by two sizes.
class RateTable {
 public:
  void add(double size, double other, double rate);
  bool empty() const { return curves_.empty(); }
  double at(double size, double other) const;
  void scale(double factor);

 private:
  std::vector<std::pair<double, RateCurve>> curves_;  // by the other size
};

struct OpCosts {
  RateTable plain_products;  // operations a second by tokens and size of the matrix
  RateTable coded_products;  // the same with weights of 4 bits
  RateTable byte_products;   // of 8
  RateCurve cache_reads;     // bytes a second by positions
  RateCurve prompts;         // operations a second by tokens
  RateCurve cache_writes;    // elements a second by tokens
  RateTable norms;           // elements a second by tokens and size

  const RateTable& products(const QuantFormat& stored) const;
};

/// Of the types of `policy`, with `share` of the device.
OpCosts op_costs(const OpRates& ops, const Policy& policy, double share);

/// What one rank has of a machine, as parts of the whole.
struct MachineShare {
  double processors = 1;
  double memory = 1;  // the traffic of memory and disk
  /// As one of so many ranks that are alike.
  static MachineShare even(int num_ranks) {
    const double part = 1.0 / std::max(1, num_ranks);
    return {part, part};
  }
  static constexpr auto fields() {
    return std::tuple(field("processors", &MachineShare::processors), field("memory", &MachineShare::memory));
  }
};

/// What a profile says of one rank's ops. Empty curves: the ceilings stand in.
struct StageRates {
  OpCosts device;  // where layers are computed
  OpCosts host;    // where attention on the host is
};

/// Null where nothing of it was measured.
std::shared_ptr<const StageRates> stage_rates(const HardwareProfile& profile, const Policy& policy, bool on_gpu,
                                              const MachineShare& share);

}  // namespace flexgen

// What the devices of a rank take while its job runs, by their own meters: a GPU's through NVML, which is looked for
// when it is needed, processors' through RAPL where their files may be read. Nothing where there is none.
//
// A meter counts all that its device does, for others too. Thread-safety: none. Sources: NVML API reference
// (nvmlDeviceGetTotalEnergyConsumption: millijoules), Linux powercap sysfs (energy_uj, max_energy_range_uj).
#pragma once

#include <filesystem>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "device/device.hpp"
#include "job/report.hpp"

namespace flexgen {

/// A meter that only grows, but for beginning anew at `range_joules` (0: it does not).
struct EnergyCounter {
  std::string kind, name;                              // as in EnergyReport
  std::function<std::optional<double>()> read_joules;  // nothing: it cannot be read now
  double range_joules = 0;
};

/// The GPU's; nothing without the library, or where it does not know.
/// @param library  "libnvidia-ml.so.1"
/// @param bus_id   pci_bus_id() of the device
std::optional<EnergyCounter> nvml_counter(const std::string& library, const std::string& bus_id);
/// Of whole packages. @param folder  "/sys/class/powercap"
std::vector<EnergyCounter> rapl_counters(const std::filesystem::path& folder);

class EnergyMeter {
 public:
  /// Begins to count.
  explicit EnergyMeter(std::vector<EnergyCounter> counters);
  static EnergyMeter of(const Device& device);

  /// Adds what was taken since the last time; often enough that no counter begins anew twice: every minute.
  void read();
  std::vector<EnergyReport> report(const std::string& host) const;

 private:
  struct Meter {
    EnergyCounter counter;
    double last_joules = 0, sum_joules = 0;
  };
  std::vector<Meter> meters_;
};

}  // namespace flexgen

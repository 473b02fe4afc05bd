#include "run/watch/energy_meter.hpp"

#include <dlfcn.h>

#include <algorithm>
#include <fstream>
#include <memory>
#include <utility>

namespace flexgen {
namespace {

namespace fs = std::filesystem;

/// NVML as far as it is needed; 0 is its success. Never unloaded while a counter holds it.
class Nvml {
 public:
  static std::shared_ptr<Nvml> open(const std::string& library) {
    void* handle = ::dlopen(library.c_str(), RTLD_NOW | RTLD_LOCAL);
    if (handle == nullptr) return nullptr;
    auto nvml = std::shared_ptr<Nvml>(new Nvml(handle));
    return nvml->is_ready_ ? nvml : nullptr;
  }
  ~Nvml() {
    if (is_ready_) shutdown_();
    ::dlclose(handle_);
  }
  Nvml(const Nvml&) = delete;
  Nvml& operator=(const Nvml&) = delete;

  void* device(const std::string& bus_id) const {
    void* device = nullptr;
    return device_by_bus_id_(bus_id.c_str(), &device) == 0 ? device : nullptr;
  }
  std::optional<double> joules(void* device) const {
    unsigned long long millijoules = 0;
    if (energy_(device, &millijoules) != 0) return std::nullopt;
    return static_cast<double>(millijoules) * 1e-3;
  }

 private:
  explicit Nvml(void* handle) : handle_(handle) {
    const bool is_whole = find("nvmlInit_v2", init_) && find("nvmlShutdown", shutdown_) &&
                          find("nvmlDeviceGetHandleByPciBusId_v2", device_by_bus_id_) &&
                          find("nvmlDeviceGetTotalEnergyConsumption", energy_);
    is_ready_ = is_whole && init_() == 0;
  }
  template <class Function>
  bool find(const char* name, Function*& function) {
    function = reinterpret_cast<Function*>(::dlsym(handle_, name));
    return function != nullptr;
  }

  void* handle_;
  bool is_ready_ = false;
  int (*init_)() = nullptr;
  int (*shutdown_)() = nullptr;
  int (*device_by_bus_id_)(const char* bus_id, void** device) = nullptr;
  int (*energy_)(void* device, unsigned long long* millijoules) = nullptr;
};

template <class Value>
std::optional<Value> value_in(const fs::path& file) {
  std::ifstream stream(file);
  Value value{};
  return stream >> value ? std::optional(value) : std::nullopt;
}

std::optional<double> joules_in(const fs::path& file) {
  const auto microjoules = value_in<double>(file);
  return microjoules ? std::optional(*microjoules * 1e-6) : std::nullopt;
}

}  // namespace

std::optional<EnergyCounter> nvml_counter(const std::string& library, const std::string& bus_id) {
  if (bus_id.empty()) return std::nullopt;
  const std::shared_ptr<Nvml> nvml = Nvml::open(library);
  void* device = nvml ? nvml->device(bus_id) : nullptr;
  if (device == nullptr || !nvml->joules(device)) return std::nullopt;
  return EnergyCounter{"gpu", bus_id, [nvml, device] { return nvml->joules(device); }, 0};
}

std::vector<EnergyCounter> rapl_counters(const fs::path& folder) {
  std::vector<EnergyCounter> counters;
  std::error_code ignored;
  for (const auto& entry : fs::directory_iterator(folder, ignored)) {
    const std::string zone = entry.path().filename().string();
    // "intel-rapl:0" is a package, "intel-rapl:0:1" a part of it that counts there already.
    if (!zone.starts_with("intel-rapl:") || std::ranges::count(zone, ':') != 1) continue;
    const fs::path file = entry.path() / "energy_uj";
    const auto name = value_in<std::string>(entry.path() / "name");
    if (!name || !name->starts_with("package") || !joules_in(file)) continue;
    counters.push_back({"processor", *name, [file] { return joules_in(file); },
                        joules_in(entry.path() / "max_energy_range_uj").value_or(0)});
  }
  std::ranges::sort(counters, {}, &EnergyCounter::name);
  return counters;
}

EnergyMeter::EnergyMeter(std::vector<EnergyCounter> counters) {
  for (EnergyCounter& counter : counters)
    if (const auto joules = counter.read_joules()) meters_.push_back({std::move(counter), *joules, 0});
}

EnergyMeter EnergyMeter::of(const Device& device) {
  std::vector<EnergyCounter> counters = rapl_counters("/sys/class/powercap");
  if (auto gpu = nvml_counter("libnvidia-ml.so.1", pci_bus_id(device))) counters.push_back(std::move(*gpu));
  return EnergyMeter(std::move(counters));
}

void EnergyMeter::read() {
  for (Meter& meter : meters_) {
    const std::optional<double> joules = meter.counter.read_joules();
    if (!joules) continue;
    const double since = *joules - meter.last_joules;
    meter.sum_joules += since < 0 ? std::max(0.0, since + meter.counter.range_joules) : since;
    meter.last_joules = *joules;
  }
}

std::vector<EnergyReport> EnergyMeter::report(const std::string& host) const {
  std::vector<EnergyReport> devices;
  for (const Meter& meter : meters_)
    devices.push_back({meter.counter.kind, meter.counter.name, host, meter.sum_joules});
  return devices;
}

}  // namespace flexgen

#include "spec/hardware_profile.hpp"

#include <fmt/core.h>

#include <algorithm>
#include <nlohmann/json.hpp>
#include <stdexcept>

#include "base/error.hpp"
#include "base/json_fields.hpp"

namespace flexgen {
namespace {

template <class Rates, class Rate>
double best_of(const Rates& rates, Rate Rates::value_type::*rate) {
  double best = 0;
  for (const auto& point : rates) best = std::max(best, point.*rate);
  return best;
}

}  // namespace

double best_rate(const std::vector<CopyRate>& rates) { return best_of(rates, &CopyRate::bytes_per_second); }
double best_rate(const std::vector<ThreadRate>& rates) { return best_of(rates, &ThreadRate::bytes_per_second); }
double best_rate(const std::vector<DiskRate>& rates) { return best_of(rates, &DiskRate::bytes_per_second); }

double lasting_read_rate(const DiskProfile& disk) {
  return disk.sustained_read ? disk.sustained_read->bytes_per_second : best_rate(disk.read);
}

double lasting_write_rate(const DiskProfile& disk) {
  return disk.sustained_write ? disk.sustained_write->bytes_per_second : best_rate(disk.write);
}

double best_rate(const std::vector<MatrixRate>& rates, DType dtype) {
  double best = 0;
  for (const MatrixRate& point : rates)
    if (point.dtype == dtype) best = std::max(best, point.operations_per_second);
  return best;
}

double link_rate(const std::vector<LinkProfile>& links, std::string_view transport) {
  double within = 0;
  double between = 0;
  for (const LinkProfile& link : links)
    if (link.transport == transport)
      (link.same_machine ? within : between) = std::max(link.same_machine ? within : between, best_rate(link.rates));
  return between > 0 ? between : within;
}

std::string to_json(const HardwareProfile& profile) {
  return nlohmann::ordered_json::parse(to_json_text(profile)).dump(2) + "\n";
}

HardwareProfile parse_hardware_profile(std::string_view text, const std::string& where) {
  try {
    const JsonDocument document(text);
    if (const std::int64_t version = document.root().member("schema_version").integer();
        version != HardwareProfile{}.schema_version)
      throw std::domain_error(fmt::format("schema_version is {}, this program reads 1", version));
    return from_json_text<HardwareProfile>(text);
  } catch (const std::exception& error) {
    throw UserError(ExitCode::file, "'" + where + "' is no hardware profile", error.what(),
                    "Measure a new one with flexgen-dist profile");
  }
}

}  // namespace flexgen

// The parts of the report's page, one under the other. Each is HTML, or empty where the report has nothing for it.
//
// Pure.
#pragma once

#include <cstdint>
#include <string>

#include "job/report.hpp"

namespace flexgen {

/// "1.46 GiB"; "0".
std::string size_text(std::uint64_t bytes);

/// Tokens, rows and busy resources over the run's time.
std::string time_section(const Report& report);
/// What the hardware allows, beside what was reached.
std::string roofline_section(const Report& report);
/// What each tier held.
std::string memory_section(const Report& report);
/// Lengths, and errors by kind.
std::string rows_section(const Report& report);
std::string policy_section(const Report& report);
std::string ranks_section(const Report& report);

}  // namespace flexgen

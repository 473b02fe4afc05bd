// A hardware profile as a table for people.
#pragma once

#include <string>

#include "spec/hardware_profile.hpp"

namespace flexgen {

/// Aligned lines, each with its newline.
std::string profile_table(const HardwareProfile& profile);

}  // namespace flexgen

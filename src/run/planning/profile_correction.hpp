// A machine's profile in which one ceiling was wrong: its figures corrected, in memory and in the file.
#pragma once

#include <string>

#include "policy/roofline.hpp"
#include "run/planning/plan_check.hpp"
#include "run/profile_file.hpp"
#include "spec/dtype.hpp"
#include "spec/hardware_profile.hpp"

namespace flexgen {

/// Which rates of a profile a rank runs by.
struct RatesInUse {
  bool on_gpu = false;
  DType dtype = DType::float32;
  std::string transport = {};  // "mpi" or "nccl"; empty for a single rank
};

/// Multiplies all figures that the ceiling is taken from: their best is off, and so are the others.
void correct_rates(HardwareProfile& profile, const RatesInUse& use, Ceiling ceiling, double factor);

/// Corrects the file from which `used` came, and notes in it what was corrected and why. Only the machine's own file is
/// touched, which was measured here: one with figures from elsewhere is a description of others, too.
/// @param named  as for load_profile
/// Returns what was done, or why it was not, as a sentence. Throws UserError (file).
std::string correct_file(const std::string& named, const std::string& host, const HardwareProfile& used,
                         const RatesInUse& use, const WrongCeiling& wrong, const std::string& reason);

}  // namespace flexgen

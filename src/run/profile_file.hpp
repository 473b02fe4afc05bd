// The file that keeps a machine's hardware profile, and finding it again.
#pragma once

#include <filesystem>
#include <optional>
#include <string>

#include "base/fields.hpp"
#include "policy/op_costs.hpp"
#include "spec/hardware_profile.hpp"

namespace flexgen {

/// $XDG_CACHE_HOME/flexgen-dist/profile-<host>.json, by default under ~/.cache; empty when neither is set.
std::filesystem::path default_profile_path(const std::string& host);

struct LoadedProfile {
  std::string source;  // file and date, for people
  HardwareProfile profile;
  MachineShare share;  // what a rank has of the machine; not exchanged (share_machines)
  static constexpr auto fields() {
    return std::tuple(field("source", &LoadedProfile::source), field("profile", &LoadedProfile::profile));
  }
};

/// `named`, else this machine's default file if it is empty; none when there is no such file.
/// Throws UserError (file) for a file that was named and cannot be read; one found by default is warned about.
std::optional<LoadedProfile> load_profile(const std::string& named, const std::string& host);

/// Makes the folders of the default file: nobody has mistyped those. Throws UserError (file).
void make_profile_folder(const std::filesystem::path& path);

/// As write_figure_file. Throws UserError (file).
void save_profile(const HardwareProfile& profile, const std::filesystem::path& path);

}  // namespace flexgen

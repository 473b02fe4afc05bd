// Finding the model that --model and --path name.
#pragma once

#include <filesystem>

#include "app/options.hpp"

namespace flexgen {

/// --model as a directory; else --path/NAME; else, for a shape alone, NAME in configs/models beside the program (in the
/// source tree or an installed tree). A name may carry an organisation ("facebook/opt-1.3b").
/// Throws UserError (model) listing the places that were looked at.
std::filesystem::path find_model(const Options& options, bool shape_is_enough);

}  // namespace flexgen

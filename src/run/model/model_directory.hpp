// Finding the model that --model and --path name.
#pragma once

#include <filesystem>
#include <string>

#include "run/job_request.hpp"

namespace flexgen {

/// --model as a directory; else --path/NAME; else, for a shape alone, NAME in configs/models beside the program (in the
/// source tree or an installed tree). A name may carry an organisation ("facebook/opt-1.3b"). A model's folder in the
/// cache of the Hugging Face hub ("models--facebook--opt-1.3b", or its "snapshots") stands for its snapshot; --path may
/// be that cache. Throws UserError (model) listing the places that were looked at, or because all that is there is an
/// adapter.
std::filesystem::path find_model(const ModelChoice& choice, bool shape_is_enough);

/// What the model in `directory` is called: `folder_name`, or, in the hub's cache, the name that it has there.
std::string model_name(const std::filesystem::path& directory, const std::string& folder_name);

}  // namespace flexgen

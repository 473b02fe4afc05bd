// Model folders with compressed weights: writing one, and the source of weights that any model folder asks for.
#pragma once

#include <filesystem>
#include <memory>

#include "comm/communicator.hpp"
#include "run/job_request.hpp"
#include "spec/model_spec.hpp"
#include "weights/weight_source.hpp"

namespace flexgen {

/// Where the job's weights come from: the files in `directory`, compressed already or not.
std::shared_ptr<WeightSource> open_weights(const std::filesystem::path& directory, const ModelSpec& model);

/// With `choice.save_compressed`: compresses the model, each rank its own slice, writes it to the folder named, and
/// returns that folder, `model` then being the compressed one; else returns `directory`. All ranks call it; an error of
/// one is thrown on all. Throws UserError: usage when there is nothing to compress, file when the folder cannot be
/// written.
std::filesystem::path save_compressed(const ModelChoice& choice, const QuantFormat& format,
                                      const std::filesystem::path& directory, ModelSpec& model, Communicator& ranks);

}  // namespace flexgen

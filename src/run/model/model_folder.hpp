// Opening the model folder that --model names: its shape, what its files ask for that nothing honours, and which head
// its weights have.
//
// Free functions; collective: every rank calls them, an error of one is thrown on all.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

#include "comm/communicator.hpp"
#include "run/job_request.hpp"
#include "spec/model_spec.hpp"
#include "weights/checkpoint/checkpoint.hpp"

namespace flexgen {

/// What a command needs of the model: its shape, its weights, or weights that choose tokens.
enum class ModelUse : std::uint8_t { shape, weights, generation };

struct ModelFolder {
  std::filesystem::path directory;
  ModelSpec spec;
};

/// Finds the model and reads its shape. Where its weights are used, rank 0 looks into the checkpoint as well (headers,
/// and the head's bytes where it may be the token table): a head that differs is kept though the config ties it, and
/// what the folder asks for in vain is logged. Throws UserError (model), and where the ranks' weights differ
/// AgreedError (communication).
ModelFolder open_model(const ModelChoice& choice, Communicator& ranks, ModelUse use);

/// Whether the checkpoint has a head whose values are not those of the token table.
bool has_own_head(const Checkpoint& checkpoint, const ModelSpec& spec);

/// Names of the checkpoint's tensors that the model's layers do not read; buffers that say nothing are left out.
std::vector<std::string> unread_tensors(const Checkpoint& checkpoint, const ModelSpec& spec);

}  // namespace flexgen

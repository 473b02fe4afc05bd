// What a job's results depend on, in words and checksums: by it a later run knows whether it may go on with them.
//
// Free functions; they read files and keep nothing.
#pragma once

#include <filesystem>
#include <optional>
#include <string>

#include "job/output/journal_record.hpp"
#include "run/job_request.hpp"
#include "spec/model_spec.hpp"

namespace flexgen {

/// A whole file by its size and checksum, as it lies there; nothing for one that cannot be read twice: standard input,
/// a pipe. Throws UserError (file) when it cannot be read.
std::optional<std::string> describe_content(const std::string& path);

/// A model's folder: its name, its configuration and tokenizer files whole, its files of weights by size and samples
/// from all over them. Throws UserError (model).
std::string describe_model(const std::filesystem::path& directory, const ModelSpec& model);

/// Its files of weights alone, likewise. Throws UserError (model).
std::string describe_weights(const std::filesystem::path& directory);

/// What of a policy changes numbers: compression, sparsity. Where layers lie and how they are computed does not.
void add_numeric_policy(const PolicyRequest& policy, JobIdentity& identity);

}  // namespace flexgen

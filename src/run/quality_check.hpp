// What compression costs on a text of the user's own: its perplexity with and without.
#pragma once

#include <filesystem>
#include <string>

#include "comm/mpi_session.hpp"
#include "run/job_request.hpp"
#include "spec/model_spec.hpp"

namespace flexgen {

/// Runs the first windows of a text twice, uncompressed and as the request says, prints both
/// perplexities and the change in percent on stderr, and warns where it is large. Collective. Placement and block size
/// are chosen anew: the uncompressed weights may not fit where the compressed ones do, and neither changes a score.
/// @param directory  the model's
void check_quality(MpiSession& session, const JobRequest& request, const std::string& text_file,
                   const std::filesystem::path& directory, const ModelSpec& model);

}  // namespace flexgen

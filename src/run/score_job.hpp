// One run over the windows of a score book, on one rank or many.
#pragma once

#include <filesystem>

#include "comm/mpi_session.hpp"
#include "job/report.hpp"
#include "run/job_request.hpp"
#include "run/rows/score_book.hpp"
#include "spec/model_spec.hpp"

namespace flexgen {

/// Collective. Returns the report on rank 0, an empty one elsewhere.
/// @param book  rank 0's; null elsewhere
Report run_score_job(MpiSession& session, const JobRequest& request, const std::filesystem::path& directory,
                     const ModelSpec& model, ScoreBook* book);

}  // namespace flexgen

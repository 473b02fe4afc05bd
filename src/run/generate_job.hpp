// One run over the rows of a row book, on one rank or many.
#pragma once

#include <filesystem>

#include "comm/mpi_session.hpp"
#include "job/report.hpp"
#include "run/job_request.hpp"
#include "run/rows/row_book.hpp"
#include "spec/model_spec.hpp"

namespace flexgen {

/// Collective. Returns the report on rank 0, an empty one elsewhere.
/// @param directory  the model's
/// @param book       rank 0's, its rows read; null elsewhere
Report run_generate_job(MpiSession& session, const JobRequest& request, const std::filesystem::path& directory,
                        const ModelSpec& model, RowBook* book);

}  // namespace flexgen

// A policy beside a reference, on rows of the user's own: three runs, one after the other.
#pragma once

#include <filesystem>
#include <optional>

#include "comm/mpi_session.hpp"
#include "run/job_request.hpp"
#include "run/verify/sample.hpp"
#include "run/verify/verify_report.hpp"
#include "spec/model_spec.hpp"

namespace flexgen {

struct VerifyRules {
  std::optional<double> max_perplexity_increase;  // percent; none: by however much
};

/// 1. The reference generates, and scores each prompt with its answer: float32, no compression, attention where the
///    weights are, nothing shared, placed as it fits by a plan of its own. Where float32 fits in no way it computes in
///    the job's own type, with a warning.
/// 2. The policy asked for, planned as for the whole job where that fits, generates.
/// 3. The same numbers, placed anew, score the reference's texts.
/// Collective; returns the report on rank 0, an empty one elsewhere.
/// @param directory  the model's
/// @param sample     rank 0's, null elsewhere
/// Throws UserError: as a job does, and (model) where the reference has no numbers.
VerifyReport verify_policy(MpiSession& session, const JobRequest& request, const VerifyRules& rules,
                           const std::filesystem::path& directory, const ModelSpec& model, const Sample* sample);

}  // namespace flexgen

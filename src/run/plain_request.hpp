// A job's request with its numbers alone: where things lie and how large blocks are is chosen anew, and nothing is
// written. For runs beside the job, which need other memory than it does.
#pragma once

#include "run/job_request.hpp"

namespace flexgen {

/// Data type and compression stay as they are given, and a plan compresses no further. Attention of single tokens is
/// the usual one: prompts that are scored have none.
JobRequest plain_request(JobRequest request);

/// The same without compression.
JobRequest uncompressed_request(JobRequest request);

}  // namespace flexgen

#include "run/plain_request.hpp"

#include <utility>

namespace flexgen {

JobRequest plain_request(JobRequest request) {
  PolicyRequest& policy = request.policy;
  policy.placement.reset();
  policy.stages.clear();
  policy.slices.reset();
  policy.gpu_batch_size.reset();
  policy.num_gpu_batches.reset();
  policy.token_budget.reset();
  policy.prefix_sharing.reset();
  policy.fewest_bits = 0;
  policy.cpu_attention_percent = 0;
  policy.attn_sparsity = 1;
  OutputFiles& files = request.files;
  files.report.clear();
  files.trace.clear();
  files.page.clear();
  files.metrics_port = 0;
  return request;
}

JobRequest uncompressed_request(JobRequest request) {
  request = plain_request(std::move(request));
  request.policy.weight_format = request.policy.cache_format = {};
  return request;
}

}  // namespace flexgen

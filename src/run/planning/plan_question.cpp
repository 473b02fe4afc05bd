#include "run/planning/plan_question.hpp"

namespace flexgen {
namespace {

// Bits from none down to as few as the user allows, the most exact first; a format that is given is the only one.
std::vector<QuantFormat> formats(const QuantFormat& given, std::int32_t fewest_bits) {
  if (!given.is_none()) return {given};
  std::vector<QuantFormat> all(1);
  for (const std::int32_t bits : {8, 4})
    if (fewest_bits > 0 && bits >= fewest_bits) {
      all.emplace_back();
      all.back().bits = bits;
    }
  return all;
}

}  // namespace

RooflineJob job_of(const JobShape& shape) {
  const auto rows = static_cast<double>(shape.num_rows);
  RooflineJob job;
  job.num_sequences = shape.num_rows;
  if (shape.num_rows == 0) return job;
  job.prompt_tokens = static_cast<double>(shape.prompt_tokens) / rows;
  job.new_tokens = static_cast<double>(shape.new_tokens) / rows;
  job.scored_tokens = shape.scores && shape.new_tokens == 0 ? job.prompt_tokens : 0;
  job.decode_position = shape.mean_decode_position();
  return job;
}

PlanQuestion plan_question(const PolicyRequest& request, const ModelSpec& model, const JobShape& shape,
                           const Policy& sizes) {
  PlanQuestion question{model, shape, job_of(shape), sizes, {}};
  PlanWishes& wishes = question.wishes;
  wishes.micro_batch_size = request.gpu_batch_size;
  wishes.num_micro_batches = request.num_gpu_batches;
  wishes.weight_formats = formats(sizes.weight_format, request.fewest_bits);
  wishes.cache_formats = formats(sizes.cache_format, request.fewest_bits);
  wishes.slices = request.slices;
  wishes.stages = request.stages;
  if (wishes.stages.empty()) wishes.stages = {{request.placement, request.cpu_attention_percent, request.sep_layer}};
  return question;
}

}  // namespace flexgen

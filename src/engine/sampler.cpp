#include "engine/sampler.hpp"

#include "ops/sampling.hpp"

namespace flexgen {

void sample(const OpContext& context, const SampleArgs& args) {
  argmax_rows(context, args.logits, args.tokens);
  if (args.targets) log_probabilities(context, args.logits, args.targets, args.scores);
}

}  // namespace flexgen

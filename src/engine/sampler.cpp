#include "engine/sampler.hpp"

#include "ops/sampling.hpp"

namespace flexgen {

void sample(const OpContext& context, const SampleArgs& args) {
  if (!args.choices.how) {
    argmax_rows(context, args.logits, args.out.tokens);
    if (args.targets) log_probabilities(context, args.logits, args.targets, args.out.scores);
    return;
  }
  SampleRowsArgs rows;
  rows.logits = args.logits;
  rows.row = args.choices.how;
  rows.host_row = args.choices.host_how;
  rows.adjustment = args.choices.adjustments;
  rows.token = args.out.tokens;
  if (args.has_scores) {
    rows.log_probability = args.out.scores;
    rows.max_top = args.max_top;
    rows.top_token = args.out.top_tokens;
    rows.top_log_probability = args.out.top_scores;
  }
  sample_rows(context, rows);
}

}  // namespace flexgen

// How far a row may go.
#include <gtest/gtest.h>

#include "tests/support/in_process_job.hpp"
#include "tests/support/scratch_place.hpp"
#include "tests/support/tiny_model.hpp"

namespace flexgen::test {
namespace {

// A row of p prompt tokens and n new ones needs p + n - 1 positions of the model and of the cache: the last token is
// never read. What comes out must be what a prompt that holds all tokens before it gives.
TEST(LastPosition, IsReachedByRowsOnAnyPlacement) {
  const ScratchPlace scratch;
  InProcessJob job;
  job.model = tiny_model();
  job.policy.micro_batch_size = job.policy.num_micro_batches = 2;
  job.offload_dir = scratch.path();
  job.keep_logits = false;
  job.make_source = [](int) { return make_random_source(); };
  const std::int32_t num_new = 6;
  for (const int ranks : {1, 2})
    for (const std::array<double, 6>& percent : {std::array<double, 6>{100, 0, 100, 0, 100, 0}, {0, 30, 0, 30, 0, 30}})
      for (const int cache_bits : {0, 4}) {
        job.num_ranks = ranks;
        job.policy.placement = make_placement(percent);
        job.policy.cache_format = {cache_bits, cache_bits > 0 ? 64 : 0};
        job.prompts.clear();
        for (std::int32_t r = 0; r < 5; ++r) {
          std::vector<std::int32_t>& prompt = job.prompts.emplace_back();
          for (std::int32_t t = 0; t < job.model.max_positions + 1 - num_new; ++t)
            prompt.push_back((31 * r + 7 * t) % job.model.vocab);
        }
        job.new_tokens = num_new;
        const InProcessResult grown = run_in_process(job);
        for (std::size_t r = 0; r < job.prompts.size(); ++r) {
          ASSERT_EQ(grown.ids[r].size(), static_cast<std::size_t>(num_new));
          job.prompts[r].insert(job.prompts[r].end(), grown.ids[r].begin(), grown.ids[r].end() - 1);
          ASSERT_EQ(job.prompts[r].size(), static_cast<std::size_t>(job.model.max_positions));
        }
        job.new_tokens = 1;
        const InProcessResult read = run_in_process(job);
        for (std::size_t r = 0; r < job.prompts.size(); ++r)
          EXPECT_EQ(read.ids[r], std::vector{grown.ids[r].back()}) << ranks << " ranks, cache bits " << cache_bits;
      }
}

}  // namespace
}  // namespace flexgen::test

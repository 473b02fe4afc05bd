// How rows are dealt to the groups in flight: full blocks while there are rows, shared out when there are few. And how
// far a row may go.
#include <gtest/gtest.h>

#include "tests/support/in_process_job.hpp"
#include "tests/support/scratch_place.hpp"
#include "tests/support/tiny_model.hpp"

namespace flexgen::test {
namespace {

// Prefill sweeps = blocks that were started.
std::int64_t blocks_started(int ranks, std::size_t rows) {
  const ScratchPlace scratch;
  InProcessJob job;
  job.model = tiny_model();
  job.num_ranks = ranks;
  job.policy.micro_batch_size = 2;
  job.policy.num_micro_batches = 2;
  job.policy.placement = make_placement({100, 0, 100, 0, 100, 0});
  for (std::size_t r = 0; r < rows; ++r) job.prompts.emplace_back(std::size_t{3}, 5);
  job.new_tokens = 3;
  job.offload_dir = scratch.path();
  job.keep_logits = false;
  job.make_source = [](int) { return make_random_source(); };
  return run_in_process(job).times.num_prefill_sweeps;
}

TEST(Generator, OneGroupTakesFullBlocks) {
  EXPECT_EQ(blocks_started(1, 4), 1);
  EXPECT_EQ(blocks_started(1, 9), 3);
}

TEST(Generator, AsManyRowsAsTheGroupsHoldNeedOneBlockEach) {
  EXPECT_EQ(blocks_started(2, 8), 2);
  EXPECT_EQ(blocks_started(4, 16), 4);
}

TEST(Generator, FewRowsAreSharedByAllGroups) {
  EXPECT_EQ(blocks_started(2, 4), 2);  // two rows each, not four and none
  EXPECT_EQ(blocks_started(4, 4), 4);
}

// A row of p prompt tokens and n new ones needs p + n - 1 positions of the model and of the cache: the last token is
// never read. What comes out must be what a prompt that holds all tokens before it gives.
TEST(Generator, RowsGoToTheModelsLastPosition) {
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

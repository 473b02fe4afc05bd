// How rows are dealt to the groups in flight: full blocks while there are rows, shared out when there are few.
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

}  // namespace
}  // namespace flexgen::test

// A model that gives no numbers at one position: rows that reach it are finished so, and no other row hears of it.
#include <gtest/gtest.h>

#include <cmath>

#include "tests/support/faulty_weight_source.hpp"
#include "tests/support/in_process_job.hpp"
#include "tests/support/scratch_place.hpp"
#include "tests/support/tiny_model.hpp"

namespace flexgen::test {
namespace {

constexpr std::int32_t bad_position = 30;
constexpr std::int32_t position_offset = 2;  // OPT's table begins with two rows that no position uses

struct Case {
  const char* name;
  int num_ranks;
  std::array<double, 6> percent;
  double host_attention_percent;
  DType dtype = DType::float32;
};

std::ostream& operator<<(std::ostream& out, const Case& one) { return out << one.name; }

class NumberFaultTest : public ::testing::TestWithParam<Case> {
 protected:
  // Prompts of 5, 10, .. 45 tokens and 5 of each: a slot is used by rows that fail and then by rows that do not.
  InProcessJob job() const {
    InProcessJob job;
    job.model = tiny_model();
    job.num_ranks = GetParam().num_ranks;
    job.policy.micro_batch_size = 2;
    job.policy.num_micro_batches = 2;
    job.policy.dtype = GetParam().dtype;
    job.policy.placement = make_placement(GetParam().percent);
    job.policy.host_attention_percent = GetParam().host_attention_percent;
    for (std::int32_t r = 0; r < 36; ++r) job.prompts.emplace_back(static_cast<std::size_t>(5 + (r * 20) % 45), 3 + r);
    job.new_tokens = 7;
    job.offload_dir = scratch_.path();
    job.keep_logits = false;
    job.make_source = [](int) { return make_random_source(); };
    return job;
  }

  static void damage(InProcessJob& job) {
    job.make_source = [](int) {
      return std::make_shared<DamagedWeightSource>(make_random_source(), "positions.weight",
                                                   position_offset + bad_position);
    };
  }

  const ScratchPlace scratch_;
};

TEST_P(NumberFaultTest, OnlyRowsThatReachThePositionFail) {
  InProcessJob damaged = job();
  const InProcessResult sound = run_in_process(damaged);
  damage(damaged);
  const InProcessResult result = run_in_process(damaged);
  std::size_t num_failed = 0;
  for (std::size_t r = 0; r < damaged.prompts.size(); ++r) {
    const auto length = static_cast<std::int32_t>(damaged.prompts[r].size());
    // A step reads the position of the token before it; the last token is not read any more.
    const std::int32_t num_good = std::clamp(bad_position + 1 - length, 0, damaged.new_tokens);
    const bool fails = num_good < damaged.new_tokens;
    num_failed += fails ? 1 : 0;
    EXPECT_EQ(result.reasons[r], fails ? FinishReason::not_a_number : FinishReason::length) << "length " << length;
    EXPECT_EQ(result.ids[r], std::vector(sound.ids[r].begin(), sound.ids[r].begin() + num_good)) << "length " << length;
  }
  EXPECT_GT(num_failed, 8U) << "of 36";
  EXPECT_LT(num_failed, 28U);
}

TEST_P(NumberFaultTest, OnlyTextsThatReachThePositionHaveNoScores) {
  InProcessJob damaged = job();
  damaged.scores = true;
  damaged.new_tokens = 0;
  const InProcessResult sound = run_in_process(damaged);
  damage(damaged);
  const InProcessResult result = run_in_process(damaged);
  for (std::size_t r = 0; r < damaged.prompts.size(); ++r) {
    const bool fails = damaged.prompts[r].size() > bad_position;
    EXPECT_EQ(result.reasons[r], fails ? FinishReason::not_a_number : FinishReason::length);
    EXPECT_EQ(result.scores[r], fails ? std::vector<float>{} : sound.scores[r]);
  }
}

INSTANTIATE_TEST_SUITE_P(Jobs, NumberFaultTest,
                         ::testing::Values(Case{"one", 1, {100, 0, 100, 0, 100, 0}, 0},
                                           Case{"tiers", 1, {0, 50, 0, 50, 0, 50}, 0, DType::float16},
                                           Case{"host", 1, {100, 0, 0, 100, 0, 100}, 100, DType::bfloat16},
                                           Case{"ranks", 2, {0, 50, 0, 50, 0, 50}, 0}),
                         [](const auto& info) { return info.param.name; });

}  // namespace
}  // namespace flexgen::test

// A policy as flags is that policy again when it is pasted.
#include <gtest/gtest.h>

#include <sstream>

#include "app/options.hpp"
#include "spec/policy.hpp"

namespace flexgen::test {
namespace {

TEST(PolicyFlags, RoundTripThroughTheParser) {
  for (const std::array<double, 6>& percent :
       {std::array<double, 6>{20, 80, 0, 100, 0, 100}, std::array<double, 6>{12.5, 33.3, 99.9, 0.1, 0, 0}})
    for (const DType dtype : {DType::float32, DType::float16, DType::bfloat16})
      for (const bool on : {true, false}) {
        Policy policy;
        policy.placement = make_placement(percent);
        policy.micro_batch_size = 48;
        policy.num_micro_batches = 3;
        policy.token_budget = on ? 480 : 0;
        policy.wants_sharing = on;
        policy.dtype = dtype;
        policy.overlap = policy.separate_layers = policy.pin_weights = on;
        policy.host_attention_percent = on ? 100 : 0;
        std::istringstream flags(to_flags(policy));
        std::vector<std::string> words{"--model", "any"};
        for (std::string word; flags >> word;) words.push_back(word);
        const Options options = parse_options("bench", words).value();
        EXPECT_EQ(options.policy.placement, make_placement(percent));
        EXPECT_EQ(options.policy.gpu_batch_size, 48);
        EXPECT_EQ(options.policy.num_gpu_batches, 3);
        EXPECT_EQ(options.policy.token_budget.value_or(0), on ? 480 : 0);
        EXPECT_EQ(options.policy.dtype, dtype);
        EXPECT_EQ(options.policy.overlap, on);
        EXPECT_EQ(options.policy.sep_layer, std::optional(on));
        EXPECT_EQ(options.policy.cpu_attention_percent.value_or(0), on ? 100 : 0);
        EXPECT_EQ(options.policy.pin_weight, on);
        EXPECT_EQ(options.policy.prefix_sharing.value_or(true), on);
      }
}

}  // namespace
}  // namespace flexgen::test

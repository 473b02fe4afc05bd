// What choose_policy decides by itself; one rank, no memory is taken.
#include "app/policy_choice.hpp"

#include <gtest/gtest.h>

#include "comm/in_process.hpp"
#include "tests/policy/plan_cases.hpp"

namespace flexgen::test {
namespace {

constexpr std::uint64_t plenty = 1ULL << 50;

Policy choose(std::vector<std::string> flags, std::uint64_t gpu_bytes) {
  flags.insert(flags.end(), {"--model", "opt-30b", "--percent", "0", "100", "0", "100", "0", "100", "--dtype",
                             "float16", "--gpu-batch-size", "2", "--num-gpu-batches", "2"});
  const ModelSpec model = test::model_of("opt-30b");
  InProcessWorld world(1);
  const std::unique_ptr<Communicator> alone = world.communicator(0);
  return choose_policy(parse_options("bench", flags).value(), model, balanced_slices(model, 1), {64, 8, 72, 4},
                       Device{}, {gpu_bytes, plenty, plenty}, *alone);
}

std::uint64_t gpu_bytes_needed(const Policy& policy) {
  const ModelSpec model = test::model_of("opt-30b");
  const JobShape job{64, 8, 72, 4};
  return plan_memory(plan_input(model, balanced_slices(model, 1).front(), policy, job, 1, Device{})).gpu.total();
}

TEST(PolicyChoice, AttentionOnTheHostTakesOneLayerWhereItFits) {
  EXPECT_TRUE(choose({}, plenty).separate_layers);
  const Policy one = choose({"--cpu-cache-compute"}, plenty);
  EXPECT_FALSE(one.separate_layers);
  const std::uint64_t needed = gpu_bytes_needed(one);
  EXPECT_FALSE(choose({"--cpu-cache-compute"}, needed).separate_layers);
  const Policy two = choose({"--cpu-cache-compute"}, needed - 1);
  EXPECT_TRUE(two.separate_layers);
  EXPECT_LT(gpu_bytes_needed(two), needed);
}

TEST(PolicyChoice, SepLayerIsTakenAsGiven) {
  EXPECT_TRUE(choose({"--cpu-cache-compute", "--sep-layer", "true"}, plenty).separate_layers);
  EXPECT_FALSE(choose({"--sep-layer", "false"}, plenty).separate_layers);
}

}  // namespace
}  // namespace flexgen::test

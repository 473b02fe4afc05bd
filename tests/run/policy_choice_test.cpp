// What choose_policy decides by itself; one rank, no memory is taken.
#include "run/policy_choice.hpp"

#include <gtest/gtest.h>

#include <array>

#include "base/error.hpp"
#include "comm/in_process.hpp"
#include "tests/policy/plan_cases.hpp"

namespace flexgen::test {
namespace {

constexpr std::uint64_t plenty = 1ULL << 50;

PolicyRequest all_in_dram() {
  PolicyRequest request;
  request.placement = make_placement({0, 100, 0, 100, 0, 100});
  request.dtype = DType::float16;
  request.gpu_batch_size = request.num_gpu_batches = 2;
  return request;
}

PolicyRequest attended_by_the_host() {
  PolicyRequest request = all_in_dram();
  request.cpu_attention_percent = 100;
  return request;
}

Policy choose(const PolicyRequest& request, std::uint64_t gpu_bytes) {
  const ModelSpec model = test::model_of("opt-30b");
  InProcessWorld world(1);
  const std::unique_ptr<Communicator> alone = world.communicator(0);
  return choose_policy(request, {model, {64, 8, 72, 4}, Device{}}, {gpu_bytes, plenty, plenty}, {std::nullopt}, *alone)
      .of_rank(0);
}

std::uint64_t gpu_bytes_needed(const Policy& policy) {
  const ModelSpec model = test::model_of("opt-30b");
  const JobShape shape{64, 8, 72, 4};
  const Device device;
  const JobOutline job{model, shape, device};
  return plan_memory(job.stage_input({policy, {policy}, {model.num_layers}}, 0)).gpu.total();
}

TEST(PolicyChoice, AttentionOnTheHostTakesOneLayerWhereItFits) {
  EXPECT_TRUE(choose(all_in_dram(), plenty).separate_layers);
  const Policy one = choose(attended_by_the_host(), plenty);
  EXPECT_FALSE(one.separate_layers);
  const std::uint64_t needed = gpu_bytes_needed(one);
  EXPECT_FALSE(choose(attended_by_the_host(), needed).separate_layers);
  const Policy two = choose(attended_by_the_host(), needed - 1);
  EXPECT_TRUE(two.separate_layers);
  EXPECT_LT(gpu_bytes_needed(two), needed);
}

// For a job of such prompts.
Policy choose_with_prompts(const PolicyRequest& request, std::int32_t prompt_tokens) {
  const ModelSpec model = test::model_of("opt-30b");
  InProcessWorld world(1);
  const std::unique_ptr<Communicator> alone = world.communicator(0);
  return choose_policy(request, {model, {prompt_tokens, 8, prompt_tokens + 7, 4}, Device{}}, {plenty, plenty, plenty},
                       {std::nullopt}, *alone)
      .of_rank(0);
}

TEST(PolicyChoice, RowsShareWhereTheyCan) {
  PolicyRequest request = all_in_dram();
  EXPECT_EQ(choose_with_prompts(request, 64).num_prefixes, 0) << "a row reads its last token itself";
  EXPECT_GT(choose_with_prompts(request, 65).num_prefixes, 0);
  request.attn_sparsity = 0.5;
  EXPECT_EQ(choose_with_prompts(request, 65).num_prefixes, 0);
  request.prefix_sharing = true;
  EXPECT_THROW(choose_with_prompts(request, 65), UserError);
  request.attn_sparsity = 1;
  EXPECT_GT(choose_with_prompts(request, 65).num_prefixes, 0);
  request.static_blocks = true;
  EXPECT_THROW(choose_with_prompts(request, 65), UserError);
  request.prefix_sharing = false;
  EXPECT_EQ(choose_with_prompts(request, 65).num_prefixes, 0);
}

TEST(PolicyChoice, SepLayerIsTakenAsGiven) {
  PolicyRequest two = attended_by_the_host();
  two.sep_layer = true;
  EXPECT_TRUE(choose(two, plenty).separate_layers);
  PolicyRequest one = all_in_dram();
  one.sep_layer = false;
  EXPECT_FALSE(choose(one, plenty).separate_layers);
}

TEST(PolicyChoice, RanksRunOneBlockAndPlaceForThemselves) {
  const ModelSpec model = test::model_of("opt-30b");
  PolicyRequest open;
  open.dtype = DType::float16;
  std::array<JobPolicy, 2> chosen;
  InProcessWorld(2).run([&](Transport&, Communicator& ranks) {
    const Budgets own{ranks.rank() == 0 ? plenty : 20ULL << 30, plenty, plenty};
    chosen[static_cast<std::size_t>(ranks.rank())] =
        choose_policy(open, {model, {64, 8, 72, 4}, Device{}}, own, {std::nullopt, std::nullopt}, ranks);
  });
  EXPECT_EQ(chosen[0].block, chosen[1].block);
  EXPECT_EQ(chosen[0].stages, chosen[1].stages);
  EXPECT_EQ(chosen[0].stages[0].placement.weights.gpu_percent, 100);
  EXPECT_LT(chosen[0].stages[1].placement.weights.gpu_percent, 100) << "its slice is larger than 20 GiB";
}

TEST(PolicyChoice, SlicesMakeUpTheModel) {
  const ModelSpec model = test::model_of("opt-30b");
  EXPECT_NO_THROW(require_slices({16, 32}, model, 2));
  for (const std::vector<std::int32_t>& slices :
       {std::vector<std::int32_t>{16, 31}, {48}, {48, 0}, {}, {16, 16, 16}, {49, -1}})
    EXPECT_THROW(require_slices(slices, model, 2), UserError);
  PolicyRequest request = all_in_dram();
  request.slices = {47};
  EXPECT_THROW(choose(request, plenty), UserError);
}

HardwareProfile some_machine() {
  HardwareProfile profile;
  profile.memory.num_processors = 2;
  profile.memory.read = {{2, 20e9}};
  profile.memory.copy = {{2, 15e9}};
  profile.memory.matrix = {{DType::float32, 8, 4096, 30e9}, {DType::float32, 512, 4096, 90e9}};
  return profile;
}

TEST(PolicyChoice, WithProfilesRanksArePlannedTogether) {
  const ModelSpec model = test::model_of("opt-1.3b");
  JobShape shape;
  shape.add_rows(64, 16, 100);
  PolicyRequest open;
  open.dtype = DType::float32;
  std::array<JobPolicy, 2> chosen;
  const Device device;
  InProcessWorld(2).run([&](Transport&, Communicator& ranks) {
    const Budgets own{ranks.rank() == 0 ? 6ULL << 30 : 1ULL << 30, 8ULL << 30, plenty};
    const RankProfiles profiles(2, LoadedProfile{"made up", some_machine(), {}});
    chosen[static_cast<std::size_t>(ranks.rank())] =
        choose_policy(open, {model, shape, device, "mpi"}, own, profiles, ranks);
  });
  EXPECT_EQ(to_text(chosen[0]), to_text(chosen[1]));
  const JobPolicy& policy = chosen[0];
  EXPECT_EQ(policy.slices[0] + policy.slices[1], model.num_layers);
  EXPECT_GE(policy.slices[0], policy.slices[1]) << "the second holds less where layers are computed, and must copy";
  EXPECT_GT(policy.stages[0].placement.weights.gpu_percent, policy.stages[1].placement.weights.gpu_percent);
  EXPECT_GT(policy.block.block_rows(), 4) << "not FlexGen's default";
}

TEST(PolicyChoice, AttentionOnTheHostNeedsItsCacheOffSsd) {
  EXPECT_NO_THROW(require_cache_off_ssd(make_placement({0, 0, 40, 60, 0, 0})));
  EXPECT_THROW(require_cache_off_ssd(make_placement({0, 0, 40, 59, 0, 0})), UserError);
}

}  // namespace
}  // namespace flexgen::test

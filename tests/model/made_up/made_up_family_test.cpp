// A second family is one file and one line of the registry: it is read, described and run like any other.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>

#include "base/error.hpp"
#include "model/layer.hpp"
#include "model/read_spec.hpp"
#include "tests/model/made_up/made_up_reference.hpp"
#include "tests/support/checkpoint_folder.hpp"
#include "tests/support/in_process_job.hpp"
#include "tests/support/scratch_place.hpp"

namespace flexgen::test {
namespace {

ModelSpec made_up_model() {
  return parse_model_spec(R"({"model_type": "made_up", "floors": 3, "width": 24, "words": 61, "places": 40, "eyes": 3,
                              "thoughts": 52, "torch_dtype": "float32"})",
                          "models/tower/config.json");
}

InProcessJob resident_job() {
  InProcessJob job;
  job.model = made_up_model();
  job.policy.micro_batch_size = 3;
  job.prompts = {{5, 9, 33, 2, 17}, {60}, {8, 8, 8, 41, 12, 30, 7, 1}};
  job.new_tokens = 5;
  job.make_source = [](int) { return make_random_source(); };
  return job;
}

TEST(MadeUpFamily, IsReadByItsOwnMembers) {
  const ModelSpec model = made_up_model();
  EXPECT_EQ(model.name, "tower");
  EXPECT_EQ(model.family, "made_up");
  EXPECT_EQ(model.residual, Residual::parallel);
  EXPECT_EQ(model.attention.heads, 3);
  const std::uint64_t floor = 4 * 24 * 24 + 2 * 24 * 52 + 52 + 24 + 4 * 24;
  EXPECT_EQ(num_parameters(model), 3 * floor + (2 * 61 + 40 + 2) * 24);
  try {
    parse_model_spec(R"({"model_type": "llama"})", "config.json");
    FAIL();
  } catch (const UserError& error) {
    for (const char* part : {"'llama'", "OPT (model_type 'opt'", "one that is made up"})
      EXPECT_NE(std::string(error.what()).find(part), std::string::npos) << error.what();
  }
}

TEST(MadeUpFamily, AParallelBlockIsOneLayer) {
  std::vector<std::string> names;
  for (const LayerDescription& layer : describe(make_layers(made_up_model(), {0, 3, true, true}, true)))
    names.push_back(layer.name);
  EXPECT_EQ(names, (std::vector<std::string>{"embedding", "block 0", "block 1", "block 2", "head"}));
}

TEST(MadeUpFamily, ComputesWhatItSays) {
  const InProcessJob job = resident_job();
  const InProcessResult result = run_in_process(job);
  for (std::size_t r = 0; r < job.prompts.size(); ++r) {
    std::vector<std::int32_t> tokens = job.prompts[r];
    ASSERT_EQ(result.logits[r].size(), 5U);
    for (std::size_t step = 0; step < 5; ++step) {
      const std::vector<double> expected = made_up_logits(job.model, tokens);
      for (std::size_t i = 0; i < expected.size(); ++i)
        ASSERT_NEAR(result.logits[r][step][i], expected[i], 1e-5) << "row " << r << ", step " << step;
      const auto likeliest = std::ranges::max_element(expected) - expected.begin();
      EXPECT_EQ(result.ids[r][step], likeliest) << "row " << r << ", step " << step;
      tokens.push_back(result.ids[r][step]);
    }
  }
}

// Cut over all tiers and read from a checkpoint; on several ranks; with attention done apart from the block.
TEST(MadeUpFamily, IsTheSameFromEverywhere) {
  const ScratchPlace scratch;
  InProcessJob job = resident_job();
  const InProcessResult resident = run_in_process(job);
  write_checkpoint(describe(make_layers(job.model, {0, 3, true, true}, false)), DType::float32, scratch.path());
  job.make_source = [&](int) { return make_checkpoint_source(Checkpoint::open(scratch.path())); };
  job.offload_dir = scratch.path();
  job.policy.micro_batch_size = 2;
  job.policy.num_micro_batches = 2;
  for (const int ranks : {1, 3})
    for (const double host_attention : {0.0, 100.0}) {
      job.num_ranks = ranks;
      job.policy.placement = make_placement({20, 30, 20, host_attention > 0 ? 80.0 : 30.0, 20, 30});
      job.policy.host_attention_percent = host_attention;
      const InProcessResult spread = run_in_process(job);
      EXPECT_EQ(spread.ids, resident.ids) << ranks << " ranks";
      EXPECT_EQ(spread.logits, resident.logits) << ranks << " ranks";
    }
}

}  // namespace
}  // namespace flexgen::test

// Every variant of OPT and of its checkpoints, against what transformers computes: tests/parity/make_random_models.py
// made the models and the reference. On one rank and on three, wholly on the gpu tier and spread over all three.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>

#include "model/read_spec.hpp"
#include "tests/support/in_process_job.hpp"
#include "tests/support/scratch_place.hpp"
#include "weights/checkpoint/checkpoint.hpp"

namespace flexgen::test {
namespace {

namespace fs = std::filesystem;

const fs::path models = fs::path(FLEXGEN_SOURCE_DIR) / "tests/parity/data/models";

std::vector<std::string> model_names() {
  std::vector<std::string> names;
  for (const auto& entry : fs::directory_iterator(models))
    if (entry.is_directory()) names.push_back(entry.path().filename().string());
  std::sort(names.begin(), names.end());
  return names;
}

struct Reference {
  std::vector<std::vector<std::int32_t>> prompts;
  std::vector<std::vector<std::int32_t>> greedy_ids;  // [row][step]
  std::size_t steps = 0;
  std::size_t vocab = 0;
  std::vector<float> logits;  // [row, step, vocab]

  const float* at(std::size_t row, std::size_t step) const { return logits.data() + (row * steps + step) * vocab; }
};

Reference read_reference(const fs::path& folder) {
  std::ifstream text(folder / "reference.json");
  const nlohmann::json json = nlohmann::json::parse(text);
  Reference reference;
  json.at("prompts").get_to(reference.prompts);
  json.at("greedy_ids").get_to(reference.greedy_ids);
  const auto shape = json.at("shape").get<std::vector<std::size_t>>();
  reference.steps = shape.at(1);
  reference.vocab = shape.at(2);
  reference.logits.resize(shape.at(0) * shape.at(1) * shape.at(2));
  std::ifstream raw(folder / "reference.bin", std::ios::binary);
  raw.read(reinterpret_cast<char*>(reference.logits.data()),
           static_cast<std::streamsize>(reference.logits.size() * sizeof(float)));
  EXPECT_EQ(static_cast<std::size_t>(raw.gcount()), reference.logits.size() * sizeof(float)) << folder;
  return reference;
}

Policy on_gpu_tier() {
  Policy policy;
  policy.micro_batch_size = 4;
  policy.num_micro_batches = 1;
  return policy;
}

// Twice two rows at a time, everything cut over gpu, dram and ssd.
Policy on_three_tiers(bool separate_layers) {
  Policy policy;
  policy.micro_batch_size = 2;
  policy.num_micro_batches = 2;
  policy.placement = make_placement({20, 30, 20, 30, 20, 30});
  policy.separate_layers = separate_layers;
  return policy;
}

class RandomModels : public ::testing::TestWithParam<std::string> {
 protected:
  InProcessJob job(const Policy& policy, int num_ranks) const {
    InProcessJob job;
    job.model = read_model_spec(folder().string());
    job.policy = policy;
    job.num_ranks = num_ranks;
    job.prompts = reference_.prompts;
    job.new_tokens = static_cast<std::int32_t>(reference_.steps);
    job.offload_dir = scratch_.path();
    job.make_source = [folder = folder()](int) { return make_checkpoint_source(Checkpoint::open(folder)); };
    return job;
  }

  // Largest |x - reference| over all rows and steps of equal history, relative to `scale` of the step's reference.
  template <class Scale>
  double largest_error(const InProcessResult& result, Scale scale) const {
    double largest = 0;
    for (std::size_t row = 0; row < reference_.prompts.size(); ++row) {
      EXPECT_EQ(result.logits[row].size(), reference_.steps);
      for (std::size_t step = 0; step < result.logits[row].size(); ++step) {
        const std::vector<float>& actual = result.logits[row][step];
        for (std::size_t v = 0; v < reference_.vocab; ++v) {
          const float* expected = reference_.at(row, step);
          const double error = std::abs(static_cast<double>(actual[v]) - expected[v]) / scale(expected, v);
          largest = std::isfinite(actual[v]) ? std::max(largest, error) : INFINITY;
        }
        if (result.ids[row][step] != reference_.greedy_ids[row][step]) break;  // another history from here on
      }
    }
    return largest;
  }

  void expect_equal_to_reference(const InProcessJob& job) const {
    const InProcessResult result = run_in_process(job);
    EXPECT_EQ(result.ids, reference_.greedy_ids) << job.num_ranks << " ranks, " << to_flags(job.policy);
    const auto element = [](const float* logits, std::size_t v) {
      return std::max(1.0, std::abs(static_cast<double>(logits[v])));
    };
    EXPECT_LE(largest_error(result, element), 1e-4) << job.num_ranks << " ranks, " << to_flags(job.policy);
  }

  fs::path folder() const { return models / GetParam(); }
  const Reference& reference() const { return reference_; }

 private:
  Reference reference_ = read_reference(models / GetParam());
  ScratchPlace scratch_;
};

TEST_P(RandomModels, OnTheGpuTier) {
  for (const int ranks : {1, 3}) expect_equal_to_reference(job(on_gpu_tier(), ranks));
}

TEST_P(RandomModels, OnThreeTiers) {
  for (const int ranks : {1, 3})
    for (const bool separate : {true, false}) expect_equal_to_reference(job(on_three_tiers(separate), ranks));
}

TEST_P(RandomModels, OnThreeTiersWithoutOverlap) {
  Policy policy = on_three_tiers(true);
  policy.overlap = false;
  expect_equal_to_reference(job(policy, 3));
}

// Both rows of a micro-batch, or one of them.
TEST_P(RandomModels, WithAttentionOnTheHost) {
  for (const int ranks : {1, 3})
    for (const double percent : {100.0, 50.0}) {
      Policy policy = on_three_tiers(percent == 100);
      policy.placement = make_placement({20, 30, 0, 100, 20, 30});
      policy.host_attention_percent = percent;
      expect_equal_to_reference(job(policy, ranks));
    }
}

// What is stored is the same wherever it lies, and so is what is computed with it.
TEST_P(RandomModels, CompressedAlikeOnAnyPlacement) {
  Policy policy = on_gpu_tier();
  policy.weight_format = policy.cache_format = {4, 32};
  const InProcessResult whole = run_in_process(job(policy, 1));
  Policy spread = on_three_tiers(true);
  spread.weight_format = spread.cache_format = {4, 32};
  for (const int ranks : {1, 3}) {
    const InProcessResult result = run_in_process(job(spread, ranks));
    EXPECT_EQ(result.ids, whole.ids) << ranks << " ranks";
    EXPECT_EQ(result.logits, whole.logits) << ranks << " ranks";
  }
}

TEST_P(RandomModels, WithReferenceKernels) {
  InProcessJob plain = job(on_three_tiers(false), 1);
  plain.backend = Backend::reference;
  expect_equal_to_reference(plain);
}

// Half precision rounds weights and every activation, some twenty roundings deep, so the error goes with the row's
// largest logit. The bounds are twice the worst of all variants (0.0038 and 0.028).
TEST_P(RandomModels, InHalfPrecision) {
  const std::size_t vocab = reference().vocab;
  const auto largest_logit = [vocab](const float* logits, std::size_t) {
    double largest = 0;
    for (std::size_t v = 0; v < vocab; ++v) largest = std::max(largest, std::abs(static_cast<double>(logits[v])));
    return largest;
  };
  struct Case {
    DType dtype;
    double bound;
    Policy policy;
  };
  const Case cases[] = {{DType::float16, 0.0075, on_three_tiers(true)}, {DType::bfloat16, 0.056, on_gpu_tier()}};
  for (const auto& [dtype, bound, placed] : cases) {
    Policy policy = placed;
    policy.dtype = dtype;
    const double error = largest_error(run_in_process(job(policy, 1)), largest_logit);
    RecordProperty(std::string(dtype_name(dtype)), std::to_string(error));
    EXPECT_LE(error, bound) << dtype_name(dtype);
  }
}

INSTANTIATE_TEST_SUITE_P(Variants, RandomModels, ::testing::ValuesIn(model_names()),
                         [](const auto& info) { return info.param; });

TEST(RandomModelData, IsThere) { EXPECT_GE(model_names().size(), 13U); }

}  // namespace
}  // namespace flexgen::test

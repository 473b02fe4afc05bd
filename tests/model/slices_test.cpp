// balanced_slices: contiguous, complete, and as balanced as any cut can be.
#include <gtest/gtest.h>

#include <algorithm>
#include <functional>
#include <limits>

#include "base/error.hpp"
#include "model/layer.hpp"

namespace flexgen::test {
namespace {

ModelSpec shape(std::int32_t num_layers, std::int32_t hidden, std::int32_t vocab, bool tied = true) {
  ModelSpec spec;
  spec.family = "opt";
  spec.num_layers = num_layers;
  spec.hidden = hidden;
  spec.embedding = {hidden, 2};
  spec.attention = AttentionSpec::of_heads(4, hidden);
  spec.mlp.width = 4 * hidden;
  spec.vocab = vocab;
  spec.max_positions = 64;
  spec.head.tied = tied;
  return spec;
}

std::int64_t elements_of(const ModelSpec& spec, const SliceBounds& bounds) {
  std::int64_t total = 0;
  for (const LayerDescription& layer : describe(make_layers(spec, bounds, true))) total += layer.num_elements();
  return total;
}

std::int64_t largest(const ModelSpec& spec, const std::vector<SliceBounds>& slices) {
  std::int64_t most = 0;
  for (const SliceBounds& bounds : slices) most = std::max(most, elements_of(spec, bounds));
  return most;
}

// The best possible largest slice, by trying every cut.
std::int64_t least_largest(const ModelSpec& spec, std::int32_t num_stages) {
  std::int64_t best = std::numeric_limits<std::int64_t>::max();
  std::vector<SliceBounds> slices(static_cast<std::size_t>(num_stages));
  const std::function<void(std::int32_t, std::int32_t)> cut = [&](std::int32_t stage, std::int32_t first) {
    const bool last = stage + 1 == num_stages;
    const std::int32_t left = spec.num_layers - first;
    for (std::int32_t count = last ? left : 1; count <= left - (num_stages - stage - 1); ++count) {
      slices[static_cast<std::size_t>(stage)] = {first, count, stage == 0, last};
      if (last) best = std::min(best, largest(spec, slices));
      else cut(stage + 1, first + count);
    }
  };
  cut(0, 0);
  return best;
}

void expect_complete(const ModelSpec& spec, const std::vector<SliceBounds>& slices) {
  std::int32_t next = 0;
  for (std::size_t s = 0; s < slices.size(); ++s) {
    EXPECT_EQ(slices[s].first_decoder_layer, next);
    EXPECT_GE(slices[s].num_decoder_layers, 1);
    EXPECT_EQ(slices[s].has_embedding, s == 0);
    EXPECT_EQ(slices[s].has_head, s + 1 == slices.size());
    next += slices[s].num_decoder_layers;
  }
  EXPECT_EQ(next, spec.num_layers);
}

TEST(BalancedSlices, NoCutIsBetter) {
  // From a token table that weighs nothing to one that outweighs all layers, on both ends and (untied) apart.
  for (const std::int32_t vocab : {8, 500, 5'000, 100'000})
    for (const bool tied : {true, false})
      for (std::int32_t layers = 1; layers <= 8; ++layers)
        for (std::int32_t stages = 1; stages <= std::min(layers, 5); ++stages) {
          const ModelSpec spec = shape(layers, 16, vocab, tied);
          const std::vector<SliceBounds> slices = balanced_slices(spec, stages);
          SCOPED_TRACE(std::to_string(layers) + " layers, " + std::to_string(stages) + " stages, vocab " +
                       std::to_string(vocab));
          ASSERT_EQ(slices.size(), static_cast<std::size_t>(stages));
          expect_complete(spec, slices);
          EXPECT_EQ(largest(spec, slices), least_largest(spec, stages));
        }
}

TEST(BalancedSlices, EightEqualLayersOverThreeRanks) {
  const std::vector<SliceBounds> slices = balanced_slices(shape(8, 64, 1), 3);
  std::vector<std::int32_t> counts;
  for (const SliceBounds& bounds : slices) counts.push_back(bounds.num_decoder_layers);
  std::sort(counts.begin(), counts.end());
  EXPECT_EQ(counts, (std::vector<std::int32_t>{2, 3, 3}));
  EXPECT_EQ(slices[1].num_decoder_layers, 3) << "the rank without embedding and head takes its full share";
}

TEST(BalancedSlices, OneRankHasAllAndEveryLayerCanBeARank) {
  const ModelSpec spec = shape(8, 16, 1000);
  EXPECT_EQ(balanced_slices(spec, 1).front().num_decoder_layers, 8);
  EXPECT_EQ(elements_of(spec, balanced_slices(spec, 1).front()), elements_of(spec, {0, 8, true, true}));
  expect_complete(spec, balanced_slices(spec, 8));
}

TEST(BalancedSlices, LargeModelsAreCutQuickly) {
  const ModelSpec spec = shape(96, 12288, 50272);
  for (const std::int32_t stages : {2, 3, 7, 16, 96}) expect_complete(spec, balanced_slices(spec, stages));
}

TEST(BalancedSlices, TooManyRanksIsAUsageErrorWithNumbers) {
  try {
    balanced_slices(shape(4, 16, 100), 5);
    FAIL();
  } catch (const UserError& error) {
    EXPECT_EQ(error.code(), ExitCode::usage);
    EXPECT_NE(std::string(error.what()).find("4 layers into 5"), std::string::npos) << error.what();
  }
}

}  // namespace
}  // namespace flexgen::test

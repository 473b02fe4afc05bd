// A head writes the logits of the positions that a call names, and nothing else.
#include <gtest/gtest.h>

#include <cmath>
#include <numeric>
#include <random>

#include "base/bytes.hpp"
#include "model/layer.hpp"
#include "tests/support/tiny_model.hpp"

namespace flexgen::test {
namespace {

constexpr std::int64_t num_tokens = 9;
const std::vector<std::int32_t> positions{0, 3, 4, 8, 1};

std::vector<float> random_floats(std::size_t count, std::uint32_t seed) {
  std::mt19937 generator(seed);
  std::uniform_real_distribution<float> uniform(-1, 1);
  std::vector<float> values(count);
  for (float& value : values) value = uniform(generator);
  return values;
}

MatrixView view_of(std::vector<float>& values, std::int64_t rows, std::int64_t cols) {
  return contiguous_view(reinterpret_cast<std::byte*>(values.data()), rows, cols, DType::float32);
}

class HeadTest : public ::testing::Test {
 protected:
  explicit HeadTest(ModelSpec model = tiny_model())
      : model_(std::move(model)), layers_(make_layers(model_, {0, model_.num_layers, true, true}, true)) {
    std::uint32_t seed = 1;
    for (const WeightSpec& weight : head().description().weights) {
      values_.push_back(random_floats(static_cast<std::size_t>(weight.num_elements()), ++seed));
      weights_.push_back(view_of(values_.back(), weight.rows, weight.cols));
    }
    hidden_ = random_floats(static_cast<std::size_t>(num_tokens * model_.hidden), ++seed);
  }
  const Layer& head() const { return *layers_.back(); }

  // Logits of positions [first, first + count), with the scratch that such a call is planned with, less its logits.
  std::vector<float> logits(std::int64_t first, std::int64_t count) {
    std::vector<float> logits(static_cast<std::size_t>(count * model_.vocab));
    std::vector<std::byte> scratch(head().workspace_bytes({}, BlockShape{}, {count, count, 1}) -
                                   static_cast<std::uint64_t>(count) *
                                       align_up(static_cast<std::uint64_t>(model_.vocab) * sizeof(float), 256) +
                                   256);
    Workspace workspace(scratch.data(), scratch.size());
    LayerCall call;
    call.weights = weights_;
    std::vector<float> hidden = hidden_;
    call.hidden = view_of(hidden, num_tokens, model_.hidden);
    call.output_rows = positions.data() + first;
    call.num_outputs = static_cast<std::int32_t>(count);
    call.logits = view_of(logits, count, model_.vocab);
    head().forward({{}, nullptr, &workspace, Backend::reference}, call);
    EXPECT_EQ(hidden, hidden_) << "hidden states are left as they are";
    EXPECT_EQ(workspace.used_bytes(), 0U);
    return logits;
  }

  void expect_ranges_to_be_parts() {
    const std::vector<float> all = logits(0, 5);
    for (const auto& [first, count] :
         std::vector<std::pair<std::int64_t, std::int64_t>>{{0, 1}, {0, 2}, {2, 3}, {4, 1}}) {
      const auto begin = all.begin() + first * model_.vocab;
      EXPECT_EQ(logits(first, count), std::vector<float>(begin, begin + count * model_.vocab)) << first;
    }
  }

  ModelSpec model_;
  Layers layers_;
  std::vector<std::vector<float>> values_;
  std::vector<MatrixView> weights_;
  std::vector<float> hidden_;
};

// By hand: the norm of a position, times each row of the table.
TEST_F(HeadTest, LogitsAreOfTheNormedPositionsAlone) {
  const std::vector<float> all = logits(0, 5);
  const auto width = static_cast<std::size_t>(model_.hidden);
  ASSERT_EQ(weights_.size(), 3U) << "norm and table";
  for (std::size_t o = 0; o < positions.size(); ++o) {
    const float* x = hidden_.data() + static_cast<std::size_t>(positions[o]) * width;
    const double mean = std::accumulate(x, x + width, 0.0) / static_cast<double>(width);
    double variance = 0;
    for (std::size_t i = 0; i < width; ++i) variance += (x[i] - mean) * (x[i] - mean) / static_cast<double>(width);
    for (std::size_t v = 0; v < static_cast<std::size_t>(model_.vocab); ++v) {
      double logit = 0;
      for (std::size_t i = 0; i < width; ++i)
        logit += ((x[i] - mean) / std::sqrt(variance + model_.norm.epsilon) * values_[0][i] + values_[1][i]) *
                 values_[2][v * width + i];
      ASSERT_NEAR(all[o * static_cast<std::size_t>(model_.vocab) + v], logit, 1e-4) << "output " << o << " token " << v;
    }
  }
}

TEST_F(HeadTest, ARangeOfOutputsHasItsPartOfTheLogits) { expect_ranges_to_be_parts(); }

class NarrowHeadTest : public HeadTest {
 protected:
  static ModelSpec narrow_model() {
    ModelSpec model = tiny_model();
    model.embedding.width = 20;
    return model;
  }
  NarrowHeadTest() : HeadTest(narrow_model()) {}
};

TEST_F(NarrowHeadTest, ARangeOfOutputsHasItsPartOfTheLogits) {
  ASSERT_TRUE(model_.has_projections());
  expect_ranges_to_be_parts();
}

// What a caller plans for: logits come in ranges of so many outputs at most.
TEST_F(HeadTest, ScratchGrowsWithTheOutputsOfACall) {
  const auto bytes = [&](std::int64_t rows) { return head().workspace_bytes({}, BlockShape{}, {rows, rows, 1}); };
  EXPECT_EQ(bytes(7), 7 * bytes(1));
  EXPECT_EQ(bytes(max_outputs_of_call + 1), bytes(max_outputs_of_call));
}

}  // namespace
}  // namespace flexgen::test

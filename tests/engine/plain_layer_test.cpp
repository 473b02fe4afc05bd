// A layer's compressed matrices made plain once for its calls of many tokens: the same values, so the same results.
#include "engine/plain_layer.hpp"

#include <gtest/gtest.h>

#include <cstring>
#include <map>
#include <optional>
#include <string>

#include "base/error.hpp"
#include "device/stream.hpp"
#include "model/layer.hpp"
#include "ops/quantize.hpp"
#include "policy/weight_layout.hpp"
#include "tests/support/in_process_job.hpp"
#include "tests/support/scratch_place.hpp"
#include "tests/support/tiny_model.hpp"

namespace flexgen::test {
namespace {

const std::string span_name = "weights made plain: ";

// Rows of prompts of 60 tokens: 68 of them fill a call.
InProcessJob prompts_job(std::int32_t rows_per_batch, std::int32_t num_batches, std::size_t num_rows) {
  InProcessJob job;
  job.model = tiny_model();
  job.policy.micro_batch_size = rows_per_batch;
  job.policy.num_micro_batches = num_batches;
  job.policy.rule = BlockRule::fixed;  // all prompts in one sweep
  job.policy.weight_format = {4, 32};
  for (std::size_t r = 0; r < num_rows; ++r) {
    job.prompts.emplace_back();
    for (std::size_t t = 0; t < 60; ++t)
      job.prompts.back().push_back(static_cast<std::int32_t>(4 + (7 * r + 11 * t) % 120));
  }
  job.new_tokens = 3;
  job.keep_trace = true;
  job.make_source = [](int) { return make_random_source(); };
  return job;
}

// How often each layer was made plain.
std::map<std::string, int> times_made(const InProcessResult& result) {
  std::map<std::string, int> times;
  for (const TraceEvent& event : result.trace)
    if (event.name.starts_with(span_name)) ++times[event.name.substr(span_name.size())];
  return times;
}

std::map<std::string, int> every_layer(int times) {
  std::map<std::string, int> all;
  for (int i = 0; i < tiny_model().num_layers; ++i)
    for (const char* kind : {"attention ", "mlp "}) all[kind + std::to_string(i)] = times;
  return all;
}

// `times`: how often every layer is made plain.
void expect_same_bits(InProcessJob job, int times) {
  const ScratchPlace scratch;
  job.offload_dir = scratch.path();
  const InProcessResult piecewise = run_in_process(job);
  EXPECT_TRUE(times_made(piecewise).empty());
  job.wants_plain_layer = true;
  const InProcessResult plain = run_in_process(job);
  const auto expected = times == 0 ? std::map<std::string, int>() : every_layer(times);
  EXPECT_EQ(times_made(plain), expected);
  EXPECT_EQ(plain.ids, piecewise.ids);
  ASSERT_EQ(plain.logits.size(), piecewise.logits.size());
  for (std::size_t row = 0; row < plain.logits.size(); ++row)
    EXPECT_EQ(plain.logits[row], piecewise.logits[row]) << "row " << row;
}

TEST(PlainLayer, OnceForTheCallsOfAMicroBatch) { expect_same_bits(prompts_job(80, 1, 80), 1); }

TEST(PlainLayer, OnceForTheMicroBatchesOfASweep) { expect_same_bits(prompts_job(10, 3, 30), 1); }

TEST(PlainLayer, OnceASweepOfPrompts) { expect_same_bits(prompts_job(10, 2, 40), 2); }

TEST(PlainLayer, CallsOfFewTokensTakeCodes) {
  // A last micro-batch, and a last call, of few tokens.
  expect_same_bits(prompts_job(10, 3, 24), 1);
  expect_same_bits(prompts_job(140, 1, 140), 1);
  // One call of many tokens alone.
  expect_same_bits(prompts_job(10, 2, 14), 0);
  expect_same_bits(prompts_job(70, 1, 70), 0);
}

TEST(PlainLayer, WeightsThatComeFromLowerTiers) {
  for (const bool overlap : {true, false}) {
    InProcessJob job = prompts_job(10, 2, 20);
    job.policy.placement = make_placement({20, 40, 20, 40, 20, 40});
    job.policy.overlap = overlap;
    expect_same_bits(job, 1);
  }
}

TEST(PlainLayer, AttentionOnTheHost) {
  InProcessJob job = prompts_job(10, 2, 20);
  job.policy.placement = make_placement({20, 80, 0, 100, 0, 100});
  job.policy.host_attention_percent = 100;
  expect_same_bits(job, 1);
}

TEST(PlainLayer, ReferenceKernels) {
  InProcessJob job = prompts_job(10, 2, 20);
  job.backend = Backend::reference;
  expect_same_bits(job, 1);
}

TEST(PlainLayer, SeveralRanks) {
  InProcessJob job = prompts_job(10, 2, 40);  // a block for each of two groups
  job.num_ranks = 2;
  expect_same_bits(job, 2);
}

// From the second sweep of prompts on.
DeviceCallCounts calls_of_later_prompts(const Device& device) {
  const ScratchPlace scratch;
  InProcessJob job = prompts_job(10, 2, 100);
  job.device = device;
  job.offload_dir = scratch.path();
  job.policy.placement = make_placement({20, 80, 100, 0, 100, 0});
  job.new_tokens = 1;
  job.keep_logits = job.keep_trace = false;
  job.wants_plain_layer = true;
  DeviceCallCounts begin, end;
  job.on_token = [&](RowId row, std::size_t) {
    if (row.value == 20) begin = device_call_counts();
    if (row.value == 99) end = device_call_counts();
  };
  run_in_process(job);
  return {end.host_waits - begin.host_waits, end.allocations - begin.allocations};
}

TEST(PlainLayer, HostNeitherAllocatesNorWaits) {
  const DeviceCallCounts calls = calls_of_later_prompts(Device{});
  EXPECT_EQ(calls.allocations, 0);
  EXPECT_EQ(calls.host_waits, 0);
}

TEST(PlainLayer, GpuNeitherAllocatesNorWaits) {
  if (num_cuda_devices() == 0) GTEST_SKIP() << "needs a GPU";
  const DeviceCallCounts calls = calls_of_later_prompts(Device{DeviceKind::cuda, 0});
  EXPECT_EQ(calls.allocations, 0);
  EXPECT_EQ(calls.host_waits, 0);
}

// The library may add up the products of a whole matrix in another order than those of a piece.
TEST(PlainLayer, GpuFindsTheSameTokens) {
  if (num_cuda_devices() == 0) GTEST_SKIP() << "needs a GPU";
  const ScratchPlace scratch;
  InProcessJob job = prompts_job(10, 2, 40);
  job.device = Device{DeviceKind::cuda, 0};
  job.offload_dir = scratch.path();
  job.wants_plain_layer = false;
  const InProcessResult piecewise = run_in_process(job);
  job.wants_plain_layer = std::nullopt;
  const InProcessResult plain = run_in_process(job);
  EXPECT_TRUE(times_made(piecewise).empty());
  EXPECT_EQ(times_made(plain).size(), every_layer(2).size()) << "on a GPU unasked";
  EXPECT_EQ(plain.ids, piecewise.ids);
}

// What is made is what dequantising gives; the rest of the layer is as it is stored.
TEST(PlainLayer, MakesMatricesAlone) {
  const ModelSpec model = tiny_model();
  const std::vector<LayerDescription> layers = describe(make_layers(model, {0, model.num_layers, true, true}, true));
  const LayerDescription& mlp = layers[2];
  const QuantFormat format{8, 32};
  const WeightLayout layout = plan_weights({&mlp, 1}, DType::float32, {100, 0}, format);
  std::vector<std::byte> memory(layout.gpu_bytes);
  const auto source = make_random_source();
  std::vector<MatrixView> stored;
  for (std::size_t w = 0; w < mlp.weights.size(); ++w) {
    const WeightSpec& spec = mlp.weights[w];
    const WeightPlace& place = layout.layers[0].places[w];
    stored.push_back(contiguous_view(memory.data() + place.offset, spec.rows, spec.cols, DType::float32, place.quant));
    if (!stored[w].is_compressed()) continue;
    std::vector<float> values(static_cast<std::size_t>(spec.num_elements()), 0.5F);
    for (std::size_t i = 0; i < values.size(); ++i) values[i] = static_cast<float>(i % 97) / 97;
    ASSERT_TRUE(quantize_rows(
        contiguous_view(reinterpret_cast<std::byte*>(values.data()), spec.rows, spec.cols, DType::float32), stored[w],
        weight_refinements));
  }
  const std::uint64_t bytes = plain_layer_bytes(mlp, DType::float32);
  std::vector<std::byte> room(bytes);
  PlainLayer plain(room.data(), bytes);
  EXPECT_FALSE(plain.is_made());
  plain.make({}, mlp, stored);
  ASSERT_TRUE(plain.is_made());
  ASSERT_EQ(plain.weights().size(), stored.size());
  int num_made = 0;
  for (std::size_t w = 0; w < stored.size(); ++w) {
    const MatrixView& made = plain.weights()[w];
    EXPECT_FALSE(made.is_compressed()) << mlp.weights[w].name;
    if (!stored[w].is_compressed()) {
      EXPECT_EQ(made.data, stored[w].data) << mlp.weights[w].name;
      continue;
    }
    ++num_made;
    std::vector<std::byte> expected(made.size_bytes());
    dequantize_rows_reference(stored[w], contiguous_view(expected.data(), made.rows, made.cols, DType::float32));
    EXPECT_EQ(std::memcmp(made.data, expected.data(), expected.size()), 0) << mlp.weights[w].name;
  }
  EXPECT_EQ(num_made, 2);
  plain.forget();
  EXPECT_FALSE(plain.is_made());
}

TEST(PlainLayer, TooLittleMemoryIsAnError) {
  const ModelSpec model = tiny_model();
  const LayerDescription mlp = describe(make_layers(model, {0, model.num_layers, true, true}, true))[2];
  std::vector<MatrixView> stored;
  for (const WeightSpec& spec : mlp.weights)
    stored.push_back(
        contiguous_view(nullptr, spec.rows, spec.cols, DType::float32, stored_format(spec.role, QuantFormat{4, 32})));
  std::byte none{};
  PlainLayer plain(&none, 1);
  EXPECT_THROW(plain.make({}, mlp, stored), InternalError);
}

}  // namespace
}  // namespace flexgen::test

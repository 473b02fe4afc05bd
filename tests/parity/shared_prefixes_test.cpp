// Rows that begin alike, in a tree of two depths and by themselves: whatever shares their caches, wherever these lie
// and whoever attends, every logit has the bits of a resident run of rows that share nothing.
#include <gtest/gtest.h>

#include <array>
#include <map>
#include <string>
#include <vector>

#include "device/device.hpp"
#include "ops/host_scratch.hpp"
#include "tests/support/in_process_job.hpp"
#include "tests/support/scratch_place.hpp"
#include "tests/support/tiny_model.hpp"

namespace flexgen::test {
namespace {

struct Case {
  const char* name;
  std::array<double, 6> percent{100, 0, 100, 0, 100, 0};
  int num_ranks = 1;
  std::int32_t micro_batch_size = 7, num_micro_batches = 2;
  std::int32_t num_prefixes = 4;
  bool overlap = true;
  double host_attention_percent = 0;
  DType dtype = DType::float32;
  QuantFormat cache = {};
  std::int32_t token_budget = 0;
};

std::ostream& operator<<(std::ostream& out, const Case& one) { return out << one.name; }

std::int32_t token(std::int32_t stream, std::int32_t at, std::int32_t vocab) {
  return (31 * stream + 17 * at * at + 7 * at) % vocab;
}

// Two thirds of the rows begin with 130 tokens, half of these with 70 more, of one of three kinds; the others share
// nothing. Each has 2 to 40 tokens of its own.
InProcessJob job_of(const Case& one) {
  InProcessJob job;
  job.model = tiny_model();
  job.model.max_positions = 300;
  job.policy.dtype = one.dtype;
  job.policy.cache_format = one.cache;
  job.new_tokens = 6;
  for (std::int32_t r = 0; r < 60; ++r) {
    std::vector<std::int32_t>& prompt = job.prompts.emplace_back();
    const auto add = [&](std::int32_t stream, std::int32_t count) {
      for (std::int32_t t = 0; t < count; ++t) prompt.push_back(token(stream, t, job.model.vocab));
    };
    if (r % 3 > 0) add(1, 130);
    if (r % 3 > 1) add(2 + r / 3 % 3, 70);
    add(100 + r, 2 + 11 * r % 39);
    job.fewer_tokens.push_back(1 + r * 3 % 6);
  }
  job.make_source = [](int) { return make_random_source(); };
  return job;
}

const InProcessResult& sharing_nothing(const Case& one) {
  static std::map<std::string, InProcessResult> results;
  const auto [at, is_new] = results.try_emplace(std::string(dtype_name(one.dtype)) + std::to_string(one.cache.bits));
  if (is_new) {
    InProcessJob job = job_of(one);
    job.policy.overlap = false;
    at->second = run_in_process(job);
  }
  return at->second;
}

class SharedPrefixes : public ::testing::TestWithParam<Case> {};

TEST_P(SharedPrefixes, GiveWhatRowsThatShareNothingGive) {
  const Case& one = GetParam();
  const ScratchPlace scratch;
  InProcessJob job = job_of(one);
  job.offload_dir = scratch.path();
  job.num_ranks = one.num_ranks;
  job.policy.placement = make_placement(one.percent);
  job.policy.micro_batch_size = one.micro_batch_size;
  job.policy.num_micro_batches = one.num_micro_batches;
  job.policy.num_prefixes = one.num_prefixes;
  job.policy.overlap = one.overlap;
  job.policy.host_attention_percent = one.host_attention_percent;
  job.policy.token_budget = one.token_budget;
  const std::uint64_t beyond_before = host_scratch_bytes_beyond_reservation();
  const InProcessResult result = run_in_process(job);
  EXPECT_EQ(host_scratch_bytes_beyond_reservation(), beyond_before) << "the plan has less scratch than was taken";

  const InProcessResult& expected = sharing_nothing(one);
  EXPECT_EQ(expected.num_saved_tokens, 0);
  EXPECT_GT(result.num_saved_tokens, 1500);
  for (std::size_t r = 0; r < job.prompts.size(); ++r) {
    ASSERT_EQ(result.ids[r], expected.ids[r]) << "row " << r;
    ASSERT_EQ(result.logits[r].size(), static_cast<std::size_t>(job.fewer_tokens[r])) << "row " << r;
    ASSERT_TRUE(result.logits[r] == expected.logits[r]) << "row " << r << ": other logits";
  }
  EXPECT_TRUE(std::filesystem::is_empty(scratch.path())) << "a scratch file is left";
}

// On a GPU products choose their kernels by the number of tokens, and a span that is attended once for all of its rows
// is merged with what a row has for itself: results are near, and tokens differ where two are nearly as likely.
struct GpuCase {
  const char* name;
  DType dtype;
  QuantFormat cache;
  double tolerance;  // of the first token's logits
};

std::ostream& operator<<(std::ostream& out, const GpuCase& one) { return out << one.name; }

class SharedPrefixesOnGpu : public ::testing::TestWithParam<GpuCase> {};

InProcessResult run_on_gpu(const GpuCase& one, const std::array<double, 6>& percent, std::int32_t num_prefixes) {
  const ScratchPlace scratch;
  InProcessJob job = job_of({.name = one.name, .dtype = one.dtype, .cache = one.cache});
  job.model.hidden = job.model.embedding.width = 128;  // heads that tensor cores take
  job.model.attention = AttentionSpec::of_heads(2, 128);
  job.device = {DeviceKind::cuda, 0};
  job.offload_dir = scratch.path();
  job.policy.placement = make_placement(percent);
  job.policy.micro_batch_size = 10;
  job.policy.num_micro_batches = 2;
  job.policy.num_prefixes = num_prefixes;
  return run_in_process(job);
}

TEST_P(SharedPrefixesOnGpu, GiveNearlyWhatRowsThatShareNothingGive) {
  if (num_cuda_devices() == 0) GTEST_SKIP() << "needs a GPU";
  const GpuCase& one = GetParam();
  const InProcessResult expected = run_on_gpu(one, {100, 0, 100, 0, 100, 0}, 0);
  for (const std::array<double, 6>& percent :
       {std::array<double, 6>{100, 0, 100, 0, 100, 0}, {20, 80, 0, 100, 0, 100}, {0, 50, 30, 40, 0, 50}}) {
    const InProcessResult result = run_on_gpu(one, percent, 4);
    EXPECT_GT(result.num_saved_tokens, 1500);
    std::size_t num_equal = 0;
    for (std::size_t r = 0; r < expected.ids.size(); ++r) {
      if (result.ids[r] == expected.ids[r]) ++num_equal;
      const std::vector<float>&actual = result.logits[r][0], &wanted = expected.logits[r][0];
      for (std::size_t v = 0; v < wanted.size(); ++v) ASSERT_NEAR(actual[v], wanted[v], one.tolerance) << "row " << r;
    }
    EXPECT_GE(num_equal, expected.ids.size() * 9 / 10);
  }
}

INSTANTIATE_TEST_SUITE_P(Kinds, SharedPrefixesOnGpu,
                         ::testing::Values(GpuCase{"float32", DType::float32, {}, 1e-4},
                                           GpuCase{"half", DType::float16, {}, 2e-2},
                                           GpuCase{"compressed", DType::float16, {4, 32}, 5e-2}),
                         [](const auto& info) { return std::string(info.param.name); });

constexpr std::array<double, 6> kDram{20, 80, 0, 100, 0, 100}, kSpread{0, 50, 30, 40, 0, 50}, kDisk{0, 0, 0, 0, 0, 0};
constexpr QuantFormat kFourBits{4, 32};

INSTANTIATE_TEST_SUITE_P(
    Everywhere, SharedPrefixes,
    ::testing::Values(Case{.name = "resident"}, Case{.name = "one_row_at_a_time", .micro_batch_size = 1},
                      Case{.name = "one_place", .num_prefixes = 1},
                      Case{.name = "chunks", .percent = kSpread, .token_budget = 50},
                      Case{.name = "dram", .percent = kDram},
                      Case{.name = "dram_inline", .percent = kDram, .overlap = false},
                      Case{.name = "spread", .percent = kSpread, .num_ranks = 2, .micro_batch_size = 16},
                      Case{.name = "disk", .percent = kDisk, .num_ranks = 3},
                      Case{.name = "disk_chunks", .percent = kDisk, .token_budget = 40},
                      Case{.name = "disk_alone", .percent = kDisk, .num_micro_batches = 1},
                      Case{.name = "host", .percent = kDram, .micro_batch_size = 20, .host_attention_percent = 100},
                      Case{.name = "host_half",
                           .percent = {0, 100, 30, 70, 0, 100},
                           .num_ranks = 2,
                           .micro_batch_size = 16,
                           .num_prefixes = 8,
                           .host_attention_percent = 50},
                      Case{.name = "half", .percent = kSpread, .dtype = DType::float16},
                      Case{.name = "compressed", .percent = kSpread, .num_ranks = 2, .cache = kFourBits},
                      Case{.name = "compressed_host",
                           .percent = kDram,
                           .micro_batch_size = 20,
                           .host_attention_percent = 60,
                           .cache = kFourBits}),
    [](const auto& info) { return std::string(info.param.name); });

}  // namespace
}  // namespace flexgen::test

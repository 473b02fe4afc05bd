// Caches in their stored form: compressed or plain, heads side by side in segments.
#include <gtest/gtest.h>

#include <random>

#include "ops/attention.hpp"
#include "ops/quantize.hpp"
#include "ops/quantize_rows.hpp"
#include "ops/thread_pool.hpp"
#include "tests/support/device_fixture.hpp"

namespace flexgen::test {
namespace {

struct Row {
  std::int32_t start, count;
};

struct Problem {
  std::vector<Row> rows;
  std::vector<std::int32_t> segments = {3, 2};  // heads of each
  std::int32_t dim = 64;
  DType dtype = DType::float32;
  QuantFormat quant = {4, 64};
  float sparsity = 1.0F;

  std::int32_t heads() const {
    std::int32_t sum = 0;
    for (const std::int32_t n : segments) sum += n;
    return sum;
  }
  std::int64_t position_bytes(std::int64_t heads) const {
    return quant.is_none() ? 2 * heads * dim * static_cast<std::int64_t>(element_bytes(dtype))
                           : heads * quant.head_position_bytes(dim);
  }
};

/// A batch whose whole history was appended by the reference; what is in no position is poisoned.
class Cache {
 public:
  explicit Cache(const Problem& problem, std::uint32_t seed = 1) : problem_(problem) {
    const std::int64_t dim = problem.dim;
    std::int64_t total = 0;
    for (const Row& row : problem.rows)
      for (const std::int32_t n : problem.segments) total += problem.position_bytes(n) * (row.start + row.count) + 64;
    memory.assign(static_cast<std::size_t>(total), std::byte{0xFF});
    std::byte* at = memory.data();
    for (const Row& row : problem.rows)
      for (const std::int32_t n : problem.segments) {
        const QuantFormat& quant = problem.quant;
        const auto position = static_cast<std::int32_t>(problem.position_bytes(n));
        const auto code = static_cast<std::int32_t>(quant.is_none() ? 0 : quant.code_bytes(dim));
        const auto parameter = static_cast<std::int32_t>(quant.is_none() ? 0 : quant.parameter_bytes(dim));
        for (std::int32_t h = 0; h < n; ++h) {
          if (quant.is_none())
            heads.push_back({at + h * dim * static_cast<std::int64_t>(element_bytes(problem.dtype)),
                             static_cast<std::int32_t>(2 * n * dim), static_cast<std::int32_t>(n * dim), 0, 0});
          else
            heads.push_back({at + h * code, position, n * code, 2 * n * code + h * (parameter - code),
                             2 * n * code + n * parameter + h * (parameter - code)});
        }
        at += static_cast<std::int64_t>(position) * (row.start + row.count) + 64;
      }
    view = {heads.data(), heads.data(), problem.heads(), problem.dim, problem.quant};
    // The past as one batch, then the new tokens.
    offset = {0}, start.clear();
    for (const Row& row : problem.rows) offset.push_back(offset.back() + row.start), start.push_back(0);
    HostMatrix past = HostMatrix::random(offset.back(), 2 * width(), problem.dtype, seed);
    append_kv_reference(batch(), past.view().col_range(0, width()), past.view().col_range(width(), width()), view);
    offset = {0}, start.clear();
    for (const Row& row : problem.rows) offset.push_back(offset.back() + row.count), start.push_back(row.start);
    qkv = HostMatrix::random(offset.back(), 3 * width(), problem.dtype, seed + 1);
  }
  Cache(const Cache&) = delete;
  Cache& operator=(const Cache&) = delete;

  std::int64_t width() const { return static_cast<std::int64_t>(problem_.heads()) * problem_.dim; }
  BatchView batch() const {
    BatchView batch{static_cast<std::int32_t>(start.size()),
                    offset.back(),
                    0,
                    0,
                    offset.data(),
                    start.data(),
                    offset.data(),
                    start.data()};
    for (std::size_t r = 0; r < start.size(); ++r) {
      const std::int32_t count = offset[r + 1] - offset[r];
      batch.max_count = std::max(batch.max_count, count);
      batch.max_length = std::max(batch.max_length, start[r] + count);
    }
    return batch;
  }
  MatrixView k() { return qkv.view().col_range(width(), width()); }
  MatrixView v() { return qkv.view().col_range(2 * width(), width()); }
  AttentionArgs args(HostMatrix& out) {
    AttentionArgs args;
    args.batch = batch();
    args.q = qkv.view().col_range(0, width());
    args.cache = view;
    args.scale = 1.0F / std::sqrt(static_cast<float>(problem_.dim));
    args.out = out.view();
    args.sparsity = problem_.sparsity;
    return args;
  }
  HostMatrix poisoned() const { return {offset.back(), width(), problem_.dtype, 5}; }

  std::vector<std::byte> memory;
  std::vector<KvHead> heads;
  std::vector<std::int32_t> offset, start;
  KvView view;
  HostMatrix qkv;  // [tokens, 3 * width]

 private:
  Problem problem_;
};

void compare(const Problem& problem) {
  SCOPED_TRACE(std::string(dtype_name(problem.dtype)) + " bits " + std::to_string(problem.quant.bits) + " group " +
               std::to_string(problem.quant.group) + " dim " + std::to_string(problem.dim) + " sparsity " +
               std::to_string(problem.sparsity));
  Cache ours(problem), theirs(problem);
  append_kv({}, ours.batch(), ours.k(), ours.v(), ours.view);
  append_kv_reference(theirs.batch(), theirs.k(), theirs.v(), theirs.view);
  ASSERT_TRUE(ours.memory == theirs.memory) << "append_kv wrote something else than the reference";
  HostMatrix actual = ours.poisoned(), expected = theirs.poisoned();
  attention({}, ours.args(actual));
  attention_reference(theirs.args(expected));
  Tolerance tolerance = tolerance_of(problem.dtype);
  tolerance.absolute += tolerance.relative * 0.5 + 2e-6;
  expect_near(actual, expected, tolerance, "attention");
}

std::vector<Row> ragged() {
  return {{0, 1}, {17, 1}, {0, 9}, {63, 1}, {64, 1}, {60, 8}, {0, 70}, {130, 1}, {127, 3}, {5, 0}, {66, 1}};
}

const QuantFormat kFormats[] = {{4, 32}, {4, 64}, {4, 128}, {8, 32}, {8, 64}, {8, 128}};

TEST(CompressedAttention, RaggedBatch) {
  for (const DType dtype : kAllDTypes)
    for (const QuantFormat& quant : kFormats) compare({.rows = ragged(), .dtype = dtype, .quant = quant});
}

TEST(CompressedAttention, HeadSizes) {
  for (const QuantFormat& quant : kFormats)
    for (const std::int32_t dim : {1, 7, 12, 20, 32, 80, 96, 128, 136, 256})
      compare({.rows = {{40, 1}, {0, 5}, {66, 2}, {129, 1}}, .dim = dim, .dtype = DType::float16, .quant = quant});
}

TEST(CompressedAttention, PlainSegments) {
  for (const DType dtype : kAllDTypes)
    for (const std::int32_t dim : {12, 64, 128})
      compare({.rows = ragged(), .segments = {1, 4, 3}, .dim = dim, .dtype = dtype, .quant = {}});
}

TEST(CompressedAttention, OnlyTheLargestWeights) {
  for (const QuantFormat& quant : {QuantFormat{}, QuantFormat{4, 64}, QuantFormat{8, 64}})
    for (const float sparsity : {0.01F, 0.1F, 0.5F, 0.99F})
      compare({.rows = ragged(), .dim = 80, .quant = quant, .sparsity = sparsity});
}

/// Two of the three earlier positions are left out: weights 8, 4, 2 of 15, and the new one's 1, by hand.
TEST(CompressedAttention, WeightsAreNotScaledUp) {
  const float ln2 = std::log(2.0F);
  float kv[8] = {3 * ln2, 10, 2 * ln2, 20, ln2, 40, 0, 80};  // [position][k, v]
  KvHead head{reinterpret_cast<std::byte*>(kv), 2, 1};
  const std::int32_t offset[2] = {0, 1}, start[1] = {3};
  float q = 1.0F;
  for (const float sparsity : {0.34F, 0.67F, 1.0F}) {
    const float expected = sparsity < 0.5F ? (8 * 10 + 80) / 15.0F
                           : sparsity < 1  ? (8 * 10 + 4 * 20 + 80) / 15.0F
                                           : (8 * 10 + 4 * 20 + 2 * 40 + 80) / 15.0F;
    float out = NAN;
    AttentionArgs args;
    args.batch = {1, 1, 1, 4, offset, start, offset, start};
    args.q = contiguous_view(reinterpret_cast<std::byte*>(&q), 1, 1, DType::float32);
    args.out = contiguous_view(reinterpret_cast<std::byte*>(&out), 1, 1, DType::float32);
    args.cache = {&head, &head, 1, 1};
    args.sparsity = sparsity;
    attention({}, args);
    EXPECT_NEAR(out, expected, 1e-5);
    out = NAN;
    attention_reference(args);
    EXPECT_NEAR(out, expected, 1e-5);
  }
}

/// However many rows and threads there are, and whatever heads share a task.
TEST(CompressedAttention, SameBitsInAnyBatchAndOnAnyThreads) {
  for (const float sparsity : {1.0F, 0.2F})
    for (const auto& [quant, dim] :
         {std::pair<QuantFormat, std::int32_t>{{}, 64}, {{4, 64}, 64}, {{4, 64}, 128}, {{8, 32}, 64}}) {
      Problem problem{.rows = {{300, 1}, {511, 1}, {0, 1}, {90, 1}, {64, 1}, {200, 1}, {1000, 1}},
                      .segments = {16, 9},
                      .dim = dim,
                      .dtype = DType::float16,
                      .quant = quant,
                      .sparsity = sparsity};
      Cache cache(problem);
      append_kv({}, cache.batch(), cache.k(), cache.v(), cache.view);
      ThreadPool one(1), three(3), seven(7);
      HostMatrix expected = cache.poisoned();
      attention_decode_host(cache.args(expected), one);
      for (ThreadPool* pool : {&three, &seven}) {
        HostMatrix actual = cache.poisoned();
        attention_decode_host(cache.args(actual), *pool);
        ASSERT_TRUE(actual.bytes() == expected.bytes());
      }
      for (std::int32_t r = 0; r < 7; ++r) {
        HostMatrix alone(1, cache.width(), DType::float16, 5);
        AttentionArgs args = cache.args(alone);
        const std::int32_t offset[2] = {0, 1};
        args.batch = {1,      1,
                      1,      cache.start[static_cast<std::size_t>(r)] + 1,
                      offset, cache.start.data() + r,
                      offset, cache.start.data() + r};
        args.q = args.q.row_range(r, 1);
        args.cache.heads = args.cache.host_heads = cache.heads.data() + r * problem.heads();
        attention_decode_host(args, seven);
        for (std::int64_t c = 0; c < cache.width(); ++c) ASSERT_EQ(alone.at(0, c), expected.at(r, c)) << "row " << r;
      }
    }
}

TEST(CompressedAttention, NotANumberStaysInItsRowAndHead) {
  Problem problem{.rows = {{70, 1}, {70, 1}}, .segments = {4}, .dtype = DType::float32};
  Cache cache(problem);
  cache.qkv.set(1, cache.width() + 2 * problem.dim, NAN);  // k of row 1, head 2
  append_kv({}, cache.batch(), cache.k(), cache.v(), cache.view);
  for (const float sparsity : {1.0F, 0.3F}) {
    HostMatrix out = cache.poisoned();
    AttentionArgs args = cache.args(out);
    args.sparsity = sparsity;
    attention({}, args);
    for (std::int64_t r = 0; r < 2; ++r)
      for (std::int64_t c = 0; c < cache.width(); ++c)
        ASSERT_EQ(std::isnan(out.at(r, c)), r == 1 && c / problem.dim == 2) << r << ", " << c;
  }
}

using CompressedAttentionOnDevice = OnDevice;
FLEXGEN_ON_EVERY_DEVICE(CompressedAttentionOnDevice);

TEST_P(CompressedAttentionOnDevice, PromptsChunksAndSingleTokens) {
  const std::vector<RowShape> rows = {{0, 33}, {300, 1}, {100, 30}, {0, 0}, {0, 1}, {800, 1}};
  for (const DType dtype : kAllDTypes) {
    for (const QuantFormat& quant : {QuantFormat{}, QuantFormat{4, 64}, QuantFormat{8, 32}}) {
      SCOPED_TRACE(std::string(dtype_name(dtype)) + " bits " + std::to_string(quant.bits));
      AttentionCase work(rows, 3, 64, dtype, 2, 0, quant, device());
      work.randomise_cache(5, 1.0F);
      TwinMatrix q(work.num_tokens(), work.cols(), dtype, 0, 0, device());
      TwinMatrix out(work.num_tokens(), work.cols(), dtype, 0, 0, device());
      q.randomise(6, 2.0F);
      set_workspace(attention_workspace_bytes(device(), {6, 3, 64, 130, dtype, quant}) + 256);
      attention(context(), {work.batch(Side::device), q.device(), work.cache(Side::device), 0.125F, out.device()});
      const HostMatrix actual = download(out);
      attention_reference({work.batch(Side::host), q.host(), work.cache(Side::host), 0.125F, out.host()});
      HostMatrix expected(work.num_tokens(), work.cols(), dtype);
      std::memcpy(expected.bytes().data(), out.host().data, expected.bytes().size());
      Tolerance tolerance = tolerance_of(dtype);
      tolerance.absolute += tolerance.relative + 2e-6;
      expect_near(actual, expected, tolerance, "attention");
    }
  }
}

}  // namespace
}  // namespace flexgen::test

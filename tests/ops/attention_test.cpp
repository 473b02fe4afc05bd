#include "ops/attention.hpp"

#include <gtest/gtest.h>

#include <numeric>

#include "tests/support/device_fixture.hpp"

namespace flexgen::test {
namespace {

enum class CacheLayout { contiguous, interleaved, segments };

/// A batch with its cache on the host and on the device, the same bytes in both.
class AttentionTest : public OnDevice {
 protected:
  struct Row {
    std::int32_t start, count;
  };
  struct Problem {
    std::vector<Row> rows;
    std::int32_t heads = 3, dim = 32;
    DType dtype = DType::float32;
    CacheLayout layout = CacheLayout::contiguous;
    std::uint32_t seed = 1;
    float magnitude = 1.0F;
  };

  struct Setup {
    std::vector<std::int32_t> token_offset{0}, start;
    std::vector<std::byte> host_memory;
    std::byte* device_memory = nullptr;
    std::vector<KvHead> host_heads, device_heads;
    BatchView host_batch, device_batch;
    KvView host_cache, device_cache;
    HostMatrix qkv;  // [tokens, 3 * heads * dim]
  };

  /// Room for `length` positions of every row; where (row, head) lies depends on the layout:
  /// contiguous   k [length, dim] then v, one head after the other
  /// interleaved  per row [length, 2, heads, dim]
  /// segments     rows alternate between the two, in reverse order of memory, with gaps
  static void lay_out(const Problem& problem, Setup& setup) {
    const std::int64_t dim = problem.dim;
    const auto bytes = static_cast<std::int64_t>(element_bytes(problem.dtype));
    std::vector<std::int64_t> first(problem.rows.size());
    std::int64_t total = 0;
    for (std::size_t i = 0; i < problem.rows.size(); ++i) {
      const std::size_t r = problem.layout == CacheLayout::segments ? problem.rows.size() - 1 - i : i;
      first[r] = total;
      const std::int64_t length = problem.rows[r].start + problem.rows[r].count;
      total += 2 * length * problem.heads * dim + (problem.layout == CacheLayout::segments ? 64 : 0);
    }
    setup.host_memory.resize(static_cast<std::size_t>(total * bytes));
    for (std::size_t r = 0; r < problem.rows.size(); ++r) {
      const std::int64_t length = problem.rows[r].start + problem.rows[r].count;
      const bool interleaved =
          problem.layout == CacheLayout::interleaved || (problem.layout == CacheLayout::segments && r % 2 == 1);
      for (std::int32_t h = 0; h < problem.heads; ++h) {
        KvHead head;
        const std::int64_t at = first[r] + (interleaved ? h * dim : 2 * length * h * dim);
        head.base = setup.host_memory.data() + at * bytes;
        head.position_stride = static_cast<std::int32_t>(interleaved ? 2 * problem.heads * dim : dim);
        head.v_offset = static_cast<std::int32_t>(interleaved ? problem.heads * dim : length * dim);
        setup.host_heads.push_back(head);
      }
    }
  }

  void build(const Problem& problem, Setup& setup) {
    BatchView& batch = setup.host_batch;
    for (const Row& row : problem.rows) {
      setup.token_offset.push_back(setup.token_offset.back() + row.count);
      setup.start.push_back(row.start);
      batch.max_count = std::max(batch.max_count, row.count);
      batch.max_length = std::max(batch.max_length, row.start + row.count);
    }
    batch.num_rows = static_cast<std::int32_t>(problem.rows.size());
    batch.num_tokens = setup.token_offset.back();
    batch.host_token_offset = batch.token_offset = setup.token_offset.data();
    batch.host_start = batch.start = setup.start.data();
    lay_out(problem, setup);
    const auto elements = static_cast<std::int64_t>(setup.host_memory.size() / element_bytes(problem.dtype));
    HostMatrix past = HostMatrix::random(1, elements, problem.dtype, problem.seed, 0, problem.magnitude);
    std::copy(past.bytes().begin(), past.bytes().end(), setup.host_memory.begin());
    setup.qkv = HostMatrix::random(batch.num_tokens, 3LL * problem.heads * problem.dim, problem.dtype, problem.seed + 1,
                                   0, problem.magnitude);
    setup.host_cache = {setup.host_heads.data(), setup.host_heads.data(), problem.heads, problem.dim};

    setup.device_memory = upload(setup.host_memory);
    setup.device_heads = setup.host_heads;
    for (KvHead& head : setup.device_heads) head.base = setup.device_memory + (head.base - setup.host_memory.data());
    setup.device_batch = batch;
    setup.device_batch.token_offset = upload(setup.token_offset);
    setup.device_batch.start = upload(setup.start);
    setup.device_cache = {upload(setup.device_heads), setup.device_heads.data(), problem.heads, problem.dim};
  }

  /// Appends and attends on the device; the output.
  HostMatrix run(const Problem& problem, Setup& setup) {
    const std::int64_t width = static_cast<std::int64_t>(problem.heads) * problem.dim;
    const MatrixView qkv = upload(setup.qkv);
    append_kv(context(), setup.device_batch, qkv.col_range(width, width), qkv.col_range(2 * width, width),
              setup.device_cache);
    HostMatrix poisoned(setup.host_batch.num_tokens, width, problem.dtype, 4);
    AttentionArgs args;
    args.batch = setup.device_batch;
    args.q = qkv.col_range(0, width);
    args.cache = setup.device_cache;
    args.scale = 1.0F / std::sqrt(static_cast<float>(problem.dim));
    args.out = upload(poisoned);
    const AttentionSizes sizes{setup.host_batch.num_rows, problem.heads, problem.dim, 0, problem.dtype};
    set_workspace(attention_workspace_bytes(device(), sizes) + 256);
    attention(context(), args);
    return download(args.out, poisoned);
  }

  static HostMatrix reference(const Problem& problem, Setup& setup) {
    const std::int64_t width = static_cast<std::int64_t>(problem.heads) * problem.dim;
    const MatrixView qkv = setup.qkv.view();
    append_kv_reference(setup.host_batch, qkv.col_range(width, width), qkv.col_range(2 * width, width),
                        setup.host_cache);
    HostMatrix expected(setup.host_batch.num_tokens, width, problem.dtype);
    AttentionArgs args;
    args.batch = setup.host_batch;
    args.q = qkv.col_range(0, width);
    args.cache = setup.host_cache;
    args.scale = 1.0F / std::sqrt(static_cast<float>(problem.dim));
    args.out = expected.view();
    attention_reference(args);
    return expected;
  }

  void compare(const Problem& problem) {
    SCOPED_TRACE(std::string(dtype_name(problem.dtype)) + " dim " + std::to_string(problem.dim) + " layout " +
                 std::to_string(static_cast<int>(problem.layout)));
    Setup setup;
    build(problem, setup);
    const HostMatrix actual = run(problem, setup);
    const HostMatrix expected = reference(problem, setup);
    std::vector<std::byte> cache(setup.host_memory.size());
    download(cache.data(), setup.device_memory, cache.size());
    EXPECT_TRUE(cache == setup.host_memory) << "append_kv wrote something else than the reference";
    Tolerance tolerance = tolerance_of(problem.dtype);
    tolerance.absolute += tolerance.relative * 0.5 * problem.magnitude;  // weights and values round, too
    if (problem.magnitude > 1.0F) tolerance.absolute *= 4.0;             // scores of size magnitude^2
    expect_near(actual, expected, tolerance, "attention");
  }

  /// Ragged: decoding rows, a whole prompt, chunks of prompts, blocks of keys and queries crossed.
  static std::vector<Row> ragged() {
    return {{0, 1}, {17, 1}, {0, 9}, {63, 1}, {64, 1}, {60, 8}, {0, 70}, {5, 66}, {130, 1}, {127, 3}, {0, 2}};
  }
};

TEST_P(AttentionTest, RaggedBatchInEveryLayout) {
  for (const DType dtype : kAllDTypes)
    for (const CacheLayout layout : {CacheLayout::contiguous, CacheLayout::interleaved, CacheLayout::segments})
      compare({.rows = ragged(), .dtype = dtype, .layout = layout});
}

TEST_P(AttentionTest, HeadSizes) {
  for (const DType dtype : kAllDTypes)
    for (const std::int32_t dim : {1, 7, 16, 20, 64, 80, 128, 136})
      compare({.rows = {{40, 1}, {0, 33}, {66, 2}}, .heads = 2, .dim = dim, .dtype = dtype});
}

TEST_P(AttentionTest, DecodeOnly) {
  for (const DType dtype : kAllDTypes)
    compare({.rows = {{0, 1}, {1, 1}, {511, 1}, {1023, 1}, {300, 1}}, .heads = 4, .dim = 64, .dtype = dtype});
}

TEST_P(AttentionTest, LargeScoresDoNotOverflow) {
  for (const DType dtype : kAllDTypes)
    compare({.rows = {{100, 1}, {0, 40}}, .dim = 64, .dtype = dtype, .magnitude = 12.0F});
}

TEST_P(AttentionTest, RowsWithoutNewTokensAreLeftAlone) {
  compare({.rows = {{5, 0}, {3, 1}, {9, 0}, {0, 12}}, .dtype = DType::float16});
}

/// A row's result has the same bits alone and among others.
TEST_P(AttentionTest, SameBitsInAnyBatch) {
  for (const DType dtype : kAllDTypes) {
    Problem all{.rows = ragged(), .dim = 64, .dtype = dtype};
    Setup setup;
    build(all, setup);
    const HostMatrix together = run(all, setup);
    const std::int64_t width = static_cast<std::int64_t>(all.heads) * all.dim;
    for (std::size_t r = 0; r < all.rows.size(); ++r) {
      Problem one = all;
      one.rows = {all.rows[r]};
      Setup alone_setup;
      build(one, alone_setup);
      // The same past and the same new tokens as in the batch. The contiguous layout makes a row's cache one run.
      const auto* from = setup.host_heads[r * static_cast<std::size_t>(all.heads)].base;
      std::copy(from, from + alone_setup.host_memory.size(), alone_setup.host_memory.begin());
      std::byte* device_memory = upload(alone_setup.host_memory);
      for (KvHead& head : alone_setup.device_heads) head.base = device_memory + (head.base - alone_setup.device_memory);
      alone_setup.device_memory = device_memory;
      alone_setup.device_cache.heads = upload(alone_setup.device_heads);
      for (std::int32_t t = 0; t < one.rows[0].count; ++t)
        for (std::int64_t c = 0; c < 3 * width; ++c)
          alone_setup.qkv.set(t, c, setup.qkv.at(setup.token_offset[r] + t, c));
      const HostMatrix alone = run(one, alone_setup);
      for (std::int32_t t = 0; t < one.rows[0].count; ++t)
        for (std::int64_t c = 0; c < width; ++c)
          ASSERT_EQ(alone.at(t, c), together.at(setup.token_offset[r] + t, c))
              << dtype_name(dtype) << " row " << r << " token " << t;
    }
  }
}

/// A prompt read whole, in chunks, or token by token: the same bits on the host, the same numbers on a GPU.
TEST_P(AttentionTest, ChunksOfAPromptAgreeWithTheWhole) {
  for (const DType dtype : kAllDTypes) {
    Problem problem{.rows = {{0, 150}}, .heads = 2, .dim = 64, .dtype = dtype};
    Setup setup;
    build(problem, setup);
    const HostMatrix whole = run(problem, setup);
    const Tolerance tolerance = device().is_cuda() ? tolerance_of(dtype) : Tolerance{0.0, 0.0};
    const Setup original = setup;
    for (const std::int32_t chunk : {1, 7, 64, 100}) {
      std::vector<std::byte> empty(setup.host_memory.size());
      std::byte* memory = upload(empty);
      for (std::size_t h = 0; h < setup.device_heads.size(); ++h)
        setup.device_heads[h].base = memory + (setup.host_heads[h].base - setup.host_memory.data());
      setup.device_cache.heads = upload(setup.device_heads);
      setup.device_cache.host_heads = setup.device_heads.data();
      HostMatrix pieces = whole;
      for (std::int32_t first = 0; first < 150; first += chunk) {
        const std::int32_t count = std::min(chunk, 150 - first);
        setup.token_offset = {0, count};
        setup.start = {first};
        setup.host_batch = {1,       count,  count, first + count, setup.token_offset.data(), setup.start.data(),
                            nullptr, nullptr};
        setup.device_batch = setup.host_batch;
        setup.device_batch.token_offset = upload(setup.token_offset);
        setup.device_batch.start = upload(setup.start);
        setup.qkv = HostMatrix(count, original.qkv.cols(), dtype);
        for (std::int32_t t = 0; t < count; ++t)
          for (std::int64_t c = 0; c < setup.qkv.cols(); ++c) setup.qkv.set(t, c, original.qkv.at(first + t, c));
        const HostMatrix piece = run(problem, setup);
        for (std::int32_t t = 0; t < count; ++t)
          for (std::int64_t c = 0; c < piece.cols(); ++c) pieces.set(first + t, c, piece.at(t, c));
      }
      expect_near(pieces, whole, tolerance, std::string(dtype_name(dtype)) + " chunks of " + std::to_string(chunk));
    }
  }
}

FLEXGEN_ON_EVERY_DEVICE(AttentionTest);

TEST(AttentionReference, SmallCaseByHand) {
  // One head of size 1, two positions: keys 0 and ln 3, values 8 and 4, query 1: weights 1/4 and 3/4.
  float memory[4] = {0.0F, std::log(3.0F), 8.0F, 4.0F};
  const KvHead head{reinterpret_cast<std::byte*>(memory), 1, 2};
  const std::int32_t token_offset[2] = {0, 2};
  const std::int32_t start[1] = {0};
  float q[2] = {1.0F, 1.0F}, out[2] = {};
  AttentionArgs args;
  args.batch = {1, 2, 2, 2, token_offset, start, token_offset, start};
  args.q = contiguous_view(reinterpret_cast<std::byte*>(q), 2, 1, DType::float32);
  args.out = contiguous_view(reinterpret_cast<std::byte*>(out), 2, 1, DType::float32);
  args.cache = {&head, &head, 1, 1};
  attention_reference(args);
  EXPECT_FLOAT_EQ(out[0], 8.0F);
  EXPECT_FLOAT_EQ(out[1], 5.0F);
  out[0] = out[1] = NAN;
  attention({}, args);
  EXPECT_FLOAT_EQ(out[0], 8.0F);
  EXPECT_FLOAT_EQ(out[1], 5.0F);
}

}  // namespace
}  // namespace flexgen::test

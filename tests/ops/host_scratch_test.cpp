// The scratch that the host's ops take of a thread: what is said to be the most is the most, and with it nothing grows.
#include "ops/host_scratch.hpp"

#include <gtest/gtest.h>

#include <functional>
#include <thread>

#include "ops/attention.hpp"
#include "ops/host/scratch.hpp"
#include "ops/layer_norm.hpp"
#include "ops/linear.hpp"
#include "ops/parallel_for.hpp"
#include "ops/quantize.hpp"
#include "ops/sampling.hpp"
#include "ops/threads.hpp"
#include "tests/support/device_fixture.hpp"

namespace flexgen::test {
namespace {

constexpr QuantFormat four_bits{4, 64};

void on_new_thread(const std::function<void()>& body) { std::thread(body).join(); }

/// What `call` takes at most of the only thread that works on it, a new one.
std::uint64_t taken_by(const std::function<void()>& call) {
  std::uint64_t bytes = 0;
  on_new_thread([&] {
    const SerialLoops alone;
    call();
    bytes = thread_scratch_peak_bytes();
  });
  return bytes;
}

/// Tiles are widest on one thread: then what is taken reaches the bound.
class OneLoopThread {
 public:
  OneLoopThread() : before_(num_loop_threads()) { set_num_loop_threads(1); }
  ~OneLoopThread() { set_num_loop_threads(before_); }
  OneLoopThread(const OneLoopThread&) = delete;
  OneLoopThread& operator=(const OneLoopThread&) = delete;

 private:
  int before_;
};

MatrixView compressed(const MatrixView& plain, const QuantFormat& format, std::vector<std::byte>& memory) {
  memory.resize(static_cast<std::size_t>(plain.rows * format.row_bytes(plain.cols)));
  const MatrixView view{memory.data(), plain.rows, plain.cols, format.row_bytes(plain.cols), plain.dtype, format};
  EXPECT_TRUE(quantize_rows_reference(plain, view, 0));
  return view;
}

std::uint64_t taken_by_linear(const LinearSizes& sizes) {
  HostMatrix x = HostMatrix::random(sizes.tokens, sizes.inputs, sizes.dtype, 1);
  HostMatrix plain = HostMatrix::random(sizes.outputs, sizes.inputs, sizes.dtype, 2);
  HostMatrix bias = HostMatrix::random(1, sizes.outputs, sizes.dtype, 3);
  HostMatrix out(sizes.tokens, sizes.outputs, sizes.dtype);
  std::vector<std::byte> codes;
  LinearArgs args;
  args.x = x.view(), args.bias = bias.view(), args.out = out.view();
  args.weight = sizes.compressed ? compressed(plain.view(), four_bits, codes) : plain.view();
  return taken_by([&] { linear({}, args); });
}

TEST(HostScratch, OfProductsIsBounded) {
  for (const bool is_compressed : {false, true})
    for (const DType dtype : kAllDTypes)
      for (const std::int64_t tokens : {1, 3, 8, 9, 30, 200, 400})
        for (const std::int64_t inputs : {24, 700, 1100})
          for (const std::int64_t outputs : {5, 100, 900}) {
            const LinearSizes sizes{tokens, outputs, inputs, dtype, is_compressed};
            EXPECT_LE(taken_by_linear(sizes), linear_scratch_bytes(sizes))
                << tokens << " x " << inputs << " -> " << outputs << " " << dtype_name(dtype) << " " << is_compressed;
          }
}

TEST(HostScratch, OfProductsReachesItsBound) {
  const OneLoopThread one;
  for (const LinearSizes& sizes :
       {LinearSizes{8, 7000, 100, DType::float16, false}, LinearSizes{192, 1600, 600, DType::float32, false}})
    EXPECT_EQ(taken_by_linear(sizes), linear_scratch_bytes(sizes)) << sizes.tokens;
  // A dequantized piece may be narrower than a tile of a whole matrix.
  const LinearSizes sizes{192, 1600, 1100, DType::float32, true};
  EXPECT_NEAR(static_cast<double>(taken_by_linear(sizes)) / static_cast<double>(linear_scratch_bytes(sizes)), 1, 0.05);
}

TEST(HostScratch, OfFewerTokensIsNoMore) {
  for (const bool is_compressed : {false, true})
    for (const DType dtype : kAllDTypes) {
      std::uint64_t before = 0;
      for (const std::int64_t tokens : {1, 2, 7, 8, 9, 20, 191, 192, 193, 5000}) {
        const std::uint64_t bytes = linear_scratch_bytes({tokens, 3000, 2000, dtype, is_compressed});
        EXPECT_GE(bytes, before) << tokens;
        before = bytes;
      }
    }
}

TEST(HostScratch, OfNormsAndOfCompressingIsBounded) {
  for (const DType dtype : kAllDTypes)
    for (const std::int64_t hidden : {7, 64, 1030}) {
      HostMatrix x = HostMatrix::random(20, hidden, dtype, 1), gamma = HostMatrix::random(1, hidden, dtype, 2);
      LayerNormArgs norm;
      norm.x = norm.out = x.view(), norm.gamma = norm.beta = gamma.view();
      EXPECT_EQ(taken_by([&] { layer_norm({}, norm); }), layer_norm_scratch_bytes(hidden));
      std::vector<std::byte> codes;
      const MatrixView stored = compressed(x.view(), four_bits, codes);
      EXPECT_EQ(taken_by([&] { static_cast<void>(quantize_rows(x.view(), stored, 0)); }),
                dtype == DType::float32 ? 0 : quantize_scratch_bytes(hidden));
    }
}

TEST(HostScratch, OfSamplingIsBounded) {
  for (const std::int64_t vocab : {1, 17, 1030, 50272}) {
    HostMatrix logits = HostMatrix::random(2, vocab, DType::float32, 1);
    std::vector<SampleRow> rows(2);
    rows[0].temperature = 1.0F, rows[0].top_k = 3, rows[1].num_top = 2;
    std::vector<std::int32_t> token(2), top_token(4);
    std::vector<float> score(2), top_score(4);
    SampleRowsArgs args;
    args.logits = logits.view(), args.row = args.host_row = rows.data(), args.max_top = 2;
    args.token = token.data(), args.log_probability = score.data();
    args.top_token = top_token.data(), args.top_log_probability = top_score.data();
    EXPECT_EQ(taken_by([&] { sample_rows({}, args); }), sample_rows_scratch_bytes(vocab)) << vocab;
  }
}

struct Row {
  std::int32_t start, count;
};

/// Rows whose cache, all zeros, holds `longest` positions each, [2, heads, dim] or codes and parameters a position.
std::uint64_t taken_by_attention(const std::vector<Row>& rows, const AttentionSizes& sizes) {
  const auto heads = static_cast<std::int32_t>(sizes.num_heads), dim = static_cast<std::int32_t>(sizes.head_dim);
  const bool plain = sizes.quant.is_none();
  const auto unit = static_cast<std::int32_t>(plain ? dim : sizes.quant.code_bytes(dim));
  const auto parameters = static_cast<std::int32_t>(plain ? 0 : sizes.quant.parameter_bytes(dim));
  const std::int32_t position = 2 * heads * (unit + parameters);
  const std::int64_t element = plain ? static_cast<std::int64_t>(element_bytes(sizes.dtype)) : 1;
  std::vector<std::byte> memory(static_cast<std::size_t>(sizes.rows * sizes.longest * position * element));
  std::vector<KvHead> table;
  std::vector<std::int32_t> offset{0}, start;
  BatchView batch{static_cast<std::int32_t>(rows.size())};
  for (std::size_t r = 0; r < rows.size(); ++r) {
    std::byte* base = memory.data() + static_cast<std::int64_t>(r) * sizes.longest * position * element;
    for (std::int32_t h = 0; h < heads; ++h)
      table.push_back({base + h * unit * element, position, heads * unit, 2 * heads * unit + h * (parameters - unit),
                       2 * heads * unit + heads * parameters + h * (parameters - unit)});
    offset.push_back(offset.back() + rows[r].count);
    start.push_back(rows[r].start);
    batch.max_count = std::max(batch.max_count, rows[r].count);
    batch.max_length = std::max(batch.max_length, rows[r].start + rows[r].count);
  }
  batch.num_tokens = offset.back();
  batch.host_token_offset = batch.token_offset = offset.data();
  batch.host_start = batch.start = start.data();
  HostMatrix qkv = HostMatrix::random(offset.back(), 3LL * heads * dim, sizes.dtype, 1);
  HostMatrix out(offset.back(), static_cast<std::int64_t>(heads) * dim, sizes.dtype);
  AttentionArgs args;
  args.batch = batch, args.q = qkv.view().col_range(0, heads * dim);
  args.cache = {table.data(), table.data(), heads, dim, sizes.quant};
  args.out = out.view();
  args.sparsity = sizes.sparsity;
  const MatrixView k = qkv.view().col_range(heads * dim, heads * dim);
  return taken_by([&] {
    append_kv({}, batch, k, qkv.view().col_range(2LL * heads * dim, heads * dim), args.cache);
    attention({}, args);
  });
}

TEST(HostScratch, OfAttentionIsBounded) {
  for (const QuantFormat& quant : {QuantFormat{}, QuantFormat{4, 32}, QuantFormat{8, 64}})
    for (const DType dtype : kAllDTypes)
      for (const std::int64_t dim : {64, 128})
        for (const std::int64_t heads : {3, 80})
          for (const float sparsity : {1.0F, 0.1F}) {
            SCOPED_TRACE(std::string(dtype_name(dtype)) + " bits " + std::to_string(quant.bits) + " dim " +
                         std::to_string(dim) + " heads " + std::to_string(heads) + " sparsity " +
                         std::to_string(sparsity));
            const AttentionSizes sizes{3, heads, dim, 150, dtype, quant, sparsity};
            EXPECT_LE(taken_by_attention({{149, 1}, {60, 1}, {0, 1}}, sizes), attention_decode_scratch_bytes(sizes));
            EXPECT_LE(taken_by_attention({{0, 150}, {149, 1}, {140, 10}}, sizes), attention_scratch_bytes(sizes));
          }
}

TEST(HostScratch, OfAttentionReachesItsBound) {
  const OneLoopThread one;
  const AttentionSizes whole{2, 3, 64, 150, DType::float16, {}, 1.0F}, sparse{2, 3, 64, 150, DType::float16, {}, 0.1F};
  EXPECT_EQ(taken_by_attention({{0, 150}, {0, 64}}, whole), attention_scratch_bytes(whole));
  EXPECT_EQ(taken_by_attention({{149, 1}, {9, 1}}, whole), attention_decode_scratch_bytes(whole));
  EXPECT_EQ(taken_by_attention({{149, 1}, {9, 1}}, sparse), attention_decode_scratch_bytes(sparse));
}

TEST(HostScratch, AThreadTakesWhatIsReservedAtOnceAndKeepsIt) {
  const HostScratchReservation reserved(4096);
  on_new_thread([] {
    const std::uint64_t before = host_scratch_bytes();
    const float* first = nullptr;
    for (const std::int64_t count : {1, 500, 1024}) {
      ScratchFrame frame;
      const float* memory = frame.floats(count);
      EXPECT_EQ(reinterpret_cast<std::uintptr_t>(memory) % 64, 0U);
      EXPECT_EQ(host_scratch_bytes() - before, 4096U);
      if (first == nullptr) first = memory;
      EXPECT_EQ(memory, first);
    }
  });
}

TEST(HostScratch, MemoryInUseNeverMovesAndTheNextCallHasItInOnePiece) {
  on_new_thread([] {
    const std::uint64_t before = host_scratch_bytes();
    const auto call = [] {
      ScratchFrame outer;
      float* kept = outer.floats(16);
      kept[0] = 7;
      for (int i = 0; i < 3; ++i) {
        ScratchFrame inner;
        inner.floats(1000)[999] = 1;
      }
      EXPECT_EQ(kept[0], 7);
    };
    call();
    EXPECT_EQ(host_scratch_bytes() - before, 0U) << "what did not fit is given back";
    call();
    EXPECT_EQ(host_scratch_bytes() - before, 64U + 4032U);
    EXPECT_EQ(thread_scratch_peak_bytes(), 64U + 4032U);
  });
}

TEST(HostScratch, EndsWithItsThread) {
  const std::uint64_t before = host_scratch_bytes();
  on_new_thread([] {
    {
      ScratchFrame frame, nested;
      static_cast<void>(nested.floats(100));
    }
    const ScratchFrame again;
    EXPECT_GT(host_scratch_bytes(), 0U);
  });
  EXPECT_EQ(host_scratch_bytes(), before);
}

TEST(HostScratch, WhoPassesWhatIsReservedShows) {
  const std::uint64_t before = host_scratch_bytes_beyond_reservation();
  const HostScratchReservation reserved(4096);
  const auto take = [](std::int64_t floats) { on_new_thread([=] { ScratchFrame().floats(floats); }); };
  take(1024);
  EXPECT_EQ(host_scratch_bytes_beyond_reservation(), before);
  take(1024 + static_cast<std::int64_t>(before) / 4 + 16);
  EXPECT_EQ(host_scratch_bytes_beyond_reservation(), before + 64);
}

}  // namespace
}  // namespace flexgen::test

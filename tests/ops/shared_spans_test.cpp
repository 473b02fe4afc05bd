// Rows that share spans of their caches, in a tree: what the host makes of them has the bits that it makes of rows that
// have everything for themselves, and is what the reference makes.
#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <map>
#include <random>
#include <vector>

#include "base/error.hpp"
#include "ops/attention.hpp"
#include "ops/host_scratch.hpp"
#include "tests/support/device_fixture.hpp"

namespace flexgen::test {
namespace {

/// A beginning that rows share: positions that go on where those of `parent` end.
struct Span {
  std::int32_t parent = -1, length = 0;
};

struct Row {
  std::int32_t span = -1;  // the last one of those that it shares
  std::int32_t own = 0;    // positions that it has for itself before its new ones
  std::int32_t count = 1;
};

struct Problem {
  std::vector<Span> spans;
  std::vector<Row> rows;
  std::int32_t heads = 3, dim = 24;
  DType dtype = DType::float32;
  QuantFormat quant = {};

  std::int32_t end_of(std::int32_t span) const {
    return span < 0
               ? 0
               : spans[static_cast<std::size_t>(span)].length + end_of(spans[static_cast<std::size_t>(span)].parent);
  }
  std::vector<std::int32_t> chain_of(std::int32_t span) const {
    if (span < 0) return {};
    std::vector<std::int32_t> chain = chain_of(spans[static_cast<std::size_t>(span)].parent);
    chain.push_back(span);
    return chain;
  }
  std::int32_t start_of(const Row& row) const { return end_of(row.span) + row.own; }
  /// Whose key and value stand at a position of a row: a span's, or the row's own.
  std::int64_t owner_of(std::size_t r, std::int32_t position) const {
    for (const std::int32_t span : chain_of(rows[r].span))
      if (position < end_of(span)) return span;
    return 1000 + static_cast<std::int64_t>(r);
  }
};

/// Caches of runs of positions, [positions][2][heads][dim] or as quantization.hpp has it.
class Runs {
 public:
  Runs(const Problem& problem, const std::vector<std::int32_t>& lengths) {
    const bool plain = problem.quant.is_none();
    const auto codes = plain ? problem.dim * static_cast<std::int64_t>(element_bytes(problem.dtype))
                             : problem.quant.code_bytes(problem.dim);
    const auto parameters = plain ? 0 : problem.quant.parameter_bytes(problem.dim);
    const auto stride = static_cast<std::int32_t>(2 * problem.heads * (codes + parameters));
    std::int64_t total = 0;
    for (const std::int32_t length : lengths) total += static_cast<std::int64_t>(length) * stride;
    memory_.resize(static_cast<std::size_t>(total), std::byte{0x7F});
    const auto unit = static_cast<std::int32_t>(plain ? element_bytes(problem.dtype) : 1);
    std::byte* begin = memory_.data();
    for (const std::int32_t length : lengths) {
      for (std::int32_t h = 0; h < problem.heads; ++h) {
        const auto to_parameters = static_cast<std::int32_t>(2 * problem.heads * codes + h * (parameters - codes));
        heads.push_back({begin + h * codes, stride / unit, static_cast<std::int32_t>(problem.heads * codes) / unit,
                         plain ? 0 : to_parameters,
                         plain ? 0 : to_parameters + static_cast<std::int32_t>(problem.heads * parameters)});
      }
      begin += static_cast<std::int64_t>(length) * stride;
    }
  }
  std::vector<KvHead> heads;

 private:
  std::vector<std::byte> memory_;
};

/// Index arrays of rows of so many positions and new tokens.
struct Batch {
  std::vector<std::int32_t> offset{0}, start;
  BatchView view;

  void add(std::int32_t row_start, std::int32_t count) {
    start.push_back(row_start);
    offset.push_back(offset.back() + count);
    view.max_count = std::max(view.max_count, count);
    view.max_length = std::max(view.max_length, row_start + count);
  }
  const BatchView& finish() {
    view.num_rows = static_cast<std::int32_t>(start.size());
    view.num_tokens = offset.back();
    view.host_token_offset = view.token_offset = offset.data();
    view.host_start = view.start = start.data();
    return view;
  }
};

/// [count, 3 * width]: query, key and value of the tokens of an owner from a position on.
void fill_tokens(const Problem& problem, std::int64_t owner, std::int32_t position, std::int32_t count,
                 const MatrixView& to) {
  for (std::int32_t t = 0; t < count; ++t) {
    const std::uint32_t seed = static_cast<std::uint32_t>(owner * 100003 + position + t);
    HostMatrix random = HostMatrix::random(1, to.cols, problem.dtype, seed, 0, 2.0F);
    std::memcpy(to.row(t), random.view().row(0), static_cast<std::size_t>(to.cols) * element_bytes(problem.dtype));
  }
}

class SharedSpansTest : public ::testing::Test {
 protected:
  /// What `attention` and its reference give for the new tokens of all rows.
  struct Outputs {
    HostMatrix actual, expected;
  };

  Outputs attend(const Problem& problem, const BatchView& batch, const KvView& cache, HostMatrix qkv) {
    const std::int64_t width = static_cast<std::int64_t>(problem.heads) * problem.dim;
    append_kv(OpContext{}, batch, qkv.view().col_range(width, width), qkv.view().col_range(2 * width, width), cache);
    Outputs outputs{HostMatrix(batch.num_tokens, width, problem.dtype),
                    HostMatrix(batch.num_tokens, width, problem.dtype)};
    AttentionArgs args;
    args.batch = batch;
    args.q = qkv.view().col_range(0, width);
    args.cache = cache;
    args.scale = 1.0F / std::sqrt(static_cast<float>(problem.dim));
    args.out = outputs.actual.view();
    attention(OpContext{}, args);
    args.out = outputs.expected.view();
    attention_reference(args);
    return outputs;
  }

  /// Reads tokens [from, from + count) of an owner into the cache.
  void read(const Problem& problem, std::int64_t owner, std::int32_t from, std::int32_t count, KvView cache,
            const SharedSpans& shared = {}) {
    if (count == 0) return;
    Batch batch;
    batch.add(from, count);
    cache.shared = shared;
    HostMatrix qkv(count, 3LL * problem.heads * problem.dim, problem.dtype);
    fill_tokens(problem, owner, from, count, qkv.view());
    const std::int64_t width = qkv.view().cols / 3;
    append_kv(OpContext{}, batch.finish(), qkv.view().col_range(width, width), qkv.view().col_range(2 * width, width),
              cache);
  }

  HostMatrix new_tokens(const Problem& problem) const {
    std::int32_t total = 0;
    for (const Row& row : problem.rows) total += row.count;
    HostMatrix qkv(total, 3LL * problem.heads * problem.dim, problem.dtype);
    std::int32_t at = 0;
    for (std::size_t r = 0; r < problem.rows.size(); ++r) {
      const Row& row = problem.rows[r];
      fill_tokens(problem, 1000 + static_cast<std::int64_t>(r), problem.start_of(row), row.count,
                  qkv.view().row_range(at, row.count));
      at += row.count;
    }
    return qkv;
  }

  static Batch batch_of(const Problem& problem) {
    Batch batch;
    for (const Row& row : problem.rows) batch.add(problem.start_of(row), row.count);
    return batch;
  }

  /// Every row with all of its positions in a run of its own.
  Outputs alone(const Problem& problem) {
    std::vector<std::int32_t> lengths;
    for (const Row& row : problem.rows) lengths.push_back(problem.start_of(row) + row.count);
    const Runs runs(problem, lengths);
    for (std::size_t r = 0; r < problem.rows.size(); ++r) {
      const KvHead* heads = runs.heads.data() + r * static_cast<std::size_t>(problem.heads);
      for (std::int32_t p = 0; p < problem.start_of(problem.rows[r]); ++p)
        read(problem, problem.owner_of(r, p), p, 1, {heads, heads, problem.heads, problem.dim, problem.quant});
    }
    Batch batch = batch_of(problem);
    return attend(problem, batch.finish(),
                  {runs.heads.data(), runs.heads.data(), problem.heads, problem.dim, problem.quant},
                  new_tokens(problem));
  }

  enum class Entries { by_neighbours, by_row };

  static std::vector<SharedSpan> list_spans(const Problem& problem, Entries entries) {
    std::vector<SharedSpan> spans;
    std::map<std::int32_t, std::size_t> open;  // span -> its entry that the row before has
    for (std::size_t r = 0; r < problem.rows.size(); ++r) {
      std::map<std::int32_t, std::size_t> of_row;
      for (const std::int32_t span : problem.chain_of(problem.rows[r].span)) {
        const auto found = open.find(span);
        if (entries == Entries::by_neighbours && found != open.end()) {
          ++spans[found->second].num_rows;
          of_row[span] = found->second;
          continue;
        }
        const std::int32_t length = problem.spans[static_cast<std::size_t>(span)].length;
        of_row[span] = spans.size();
        spans.push_back({static_cast<std::int32_t>(r), 1, problem.end_of(span) - length, length, span});
      }
      open = of_row;
    }
    return spans;
  }

  Outputs shared(const Problem& problem, Entries entries) {
    std::vector<std::int32_t> span_lengths, own_lengths, own_begin;
    for (const Span& span : problem.spans) span_lengths.push_back(span.length);
    for (const Row& row : problem.rows) {
      own_lengths.push_back(row.own + row.count);
      own_begin.push_back(problem.end_of(row.span));
    }
    const Runs spans(problem, span_lengths), own(problem, own_lengths);
    for (std::size_t s = 0; s < problem.spans.size(); ++s) {
      const KvHead* heads = spans.heads.data() + s * static_cast<std::size_t>(problem.heads);
      const auto span = static_cast<std::int32_t>(s);
      const std::int32_t begin = problem.end_of(span) - problem.spans[s].length;
      const SharedSpan nothing{0, 1, 0, 0, 0};
      read(problem, span, begin, problem.spans[s].length, {heads, heads, problem.heads, problem.dim, problem.quant},
           {1, &nothing, &begin, spans.heads.data()});
    }
    const std::vector<SharedSpan> list = list_spans(problem, entries);
    const SharedSpans all{static_cast<std::int32_t>(list.size()), list.data(), own_begin.data(), spans.heads.data()};
    for (std::size_t r = 0; r < problem.rows.size(); ++r) {
      const KvHead* heads = own.heads.data() + r * static_cast<std::size_t>(problem.heads);
      const SharedSpan nothing{0, 1, 0, 0, 0};
      read(problem, 1000 + static_cast<std::int64_t>(r), own_begin[r], problem.rows[r].own,
           {heads, heads, problem.heads, problem.dim, problem.quant}, {1, &nothing, &own_begin[r], spans.heads.data()});
    }
    Batch batch = batch_of(problem);
    KvView cache{own.heads.data(), own.heads.data(), problem.heads, problem.dim, problem.quant};
    cache.shared = all;
    return attend(problem, batch.finish(), cache, new_tokens(problem));
  }

  void compare(const Problem& problem) {
    SCOPED_TRACE(std::string(dtype_name(problem.dtype)) + " bits " + std::to_string(problem.quant.bits) + " dim " +
                 std::to_string(problem.dim));
    const Outputs expected = alone(problem);
    for (const Entries entries : {Entries::by_neighbours, Entries::by_row}) {
      const Outputs actual = shared(problem, entries);
      EXPECT_TRUE(actual.actual.bytes() == expected.actual.bytes())
          << (entries == Entries::by_row ? "row by row" : "neighbours together");
      EXPECT_TRUE(actual.expected.bytes() == expected.expected.bytes()) << "the reference";
      expect_near(actual.actual, actual.expected, problem);
    }
  }

  static void expect_near(const HostMatrix& actual, const HostMatrix& expected, const Problem& problem) {
    const double tolerance = problem.dtype == DType::float32 ? 2e-5 : problem.dtype == DType::float16 ? 4e-3 : 3e-2;
    for (std::int64_t row = 0; row < expected.rows(); ++row)
      for (std::int64_t col = 0; col < expected.cols(); ++col)
        ASSERT_NEAR(actual.at(row, col), expected.at(row, col), tolerance) << row << ", " << col;
  }
};

/// Rows of a tree of three depths, prompts before those that decode; some share nothing.
Problem tree(std::uint32_t seed) {
  Problem problem;
  problem.spans = {{-1, 128}, {0, 64}, {0, 192}, {2, 64}, {-1, 64}};
  std::mt19937 random(seed);
  for (const std::int32_t span : {3, -1, 0, 3})
    problem.rows.push_back({span, static_cast<std::int32_t>(random() % 90), 5});
  problem.rows.push_back({2, 0, 130});
  for (const std::int32_t span : {-1, -1, 0, 0, 1, 1, 1, 2, 3, 3, 4, 4})
    problem.rows.push_back({span, static_cast<std::int32_t>(random() % 150), 1});
  return problem;
}

TEST_F(SharedSpansTest, ATreeGivesTheBitsOfRowsThatShareNothing) {
  for (const DType dtype : {DType::float32, DType::float16, DType::bfloat16})
    for (const std::int32_t dim : {24, 64}) {
      Problem problem = tree(static_cast<std::uint32_t>(dim));
      problem.dtype = dtype;
      problem.dim = dim;
      compare(problem);
    }
}

TEST_F(SharedSpansTest, SoDoesACompressedOne) {
  for (const std::int32_t bits : {4, 8})
    for (const DType dtype : {DType::float32, DType::bfloat16}) {
      Problem problem = tree(static_cast<std::uint32_t>(bits));
      problem.dtype = dtype;
      problem.dim = 64;
      problem.quant = {bits, 32};
      compare(problem);
    }
}

TEST_F(SharedSpansTest, MoreRowsThanABlockOfQueries) {
  Problem problem;
  problem.spans = {{-1, 64}, {0, 64}};
  for (std::int32_t r = 0; r < 150; ++r) problem.rows.push_back({r < 100 ? 0 : 1, r % 7, 1});
  compare(problem);
}

TEST_F(SharedSpansTest, SpansThatAreNotOfWholeGrainsAreRefused) {
  Problem problem;
  problem.spans = {{-1, 72}};
  problem.rows = {{0, 3, 1}};
  EXPECT_THROW(shared(problem, Entries::by_neighbours), InternalError);
}

}  // namespace
}  // namespace flexgen::test

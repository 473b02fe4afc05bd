// Attention of rows that share spans of their caches, against the reference and against the same rows that share
// nothing; how long a decode step takes with and without.
#include <algorithm>
#include <array>

#include "gpu_check.hpp"
#include "ops/row_spans.hpp"
#include "spec/block_limits.hpp"

namespace flexgen::gpu {
namespace {

/// A beginning that rows share: positions that go on where those of `parent` end.
struct Beginning {
  std::int32_t parent, length;
};
struct SharingRow {
  std::int32_t beginning;  // the last one of those that it shares, -1: none
  std::int32_t own;        // positions that it has for itself before its new ones
  std::int32_t count;
};
struct Problem {
  const char* name;
  std::vector<Beginning> beginnings;
  std::vector<SharingRow> rows;

  std::vector<std::int32_t> chain_of(std::int32_t beginning) const {  // root first
    std::vector<std::int32_t> chain;
    for (; beginning >= 0; beginning = beginnings[beginning].parent) chain.insert(chain.begin(), beginning);
    return chain;
  }
  std::int32_t own_begin(const SharingRow& row) const {
    std::int32_t end = 0;
    for (const std::int32_t beginning : chain_of(row.beginning)) end += beginnings[beginning].length;
    return end;
  }
  bool any_decode() const {
    return std::ranges::any_of(rows, [](const SharingRow& row) { return row.count == 1; });
  }
};

struct Shape {
  std::int32_t heads, head_dim;
  DType dtype;
  QuantFormat quant = {};
  int segments = 1;
  std::int32_t gap = 0;

  std::string name() const {
    return std::string(dtype_name(dtype)) + ", " + std::to_string(head_dim) +
           (quant.is_none() ? "" : ", " + std::to_string(quant.bits) + " bits / " + std::to_string(quant.group)) +
           (segments > 1 ? ", 2 runs" : "") + (gap > 0 ? ", unaligned" : "");
  }
};

/// The index arrays of what the first rows of a problem share, on both sides.
class SharedTables {
 public:
  SharedTables(const Problem& problem, std::int32_t num_rows) {
    std::vector<std::size_t> open;  // spans of the row before, in the order of its chain
    std::vector<std::int32_t> own_begin, own_start;
    for (std::int32_t r = 0; r < num_rows; ++r) {
      const SharingRow& row = problem.rows[r];
      own_begin.push_back(problem.own_begin(row));
      own_start.push_back(row.own);
      std::vector<std::size_t> of_row;
      std::int32_t begin = 0;
      for (const std::int32_t beginning : problem.chain_of(row.beginning)) {
        const std::size_t depth = of_row.size();
        if (depth < open.size() && spans_[open[depth]].run == beginning) {
          ++spans_[open[depth]].num_rows;
          of_row.push_back(open[depth]);
        } else {
          of_row.push_back(spans_.size());
          spans_.push_back({r, 1, begin, problem.beginnings[beginning].length, beginning});
          open.clear();
        }
        begin += problem.beginnings[beginning].length;
      }
      open = of_row;
    }
    std::size_t entries = 0;
    for (const SharedSpan& span : spans_) entries += static_cast<std::size_t>(span.num_rows);
    std::vector<std::int32_t> first(static_cast<std::size_t>(num_rows) + 1), index(entries);
    list_row_spans(spans_, num_rows, first.data(), index.data());
    own_begin_ = put(own_begin), own_start_ = put(own_start), first_ = put(first), index_ = put(index);
    numbers_ = Twin(ints_.size() * sizeof(std::int32_t) + 4);
    std::memcpy(numbers_.host(), ints_.data(), ints_.size() * sizeof(std::int32_t));
    numbers_.upload();
    list_ = Twin(spans_.size() * sizeof(SharedSpan) + 4);
    std::memcpy(list_.host(), spans_.data(), spans_.size() * sizeof(SharedSpan));
    list_.upload();
  }

  /// runs: the cache of the beginnings, of the same side.
  SharedSpans view(const KvView& runs) {
    SharedSpans shared;
    const auto* host = reinterpret_cast<const std::int32_t*>(numbers_.host());
    const auto* device = reinterpret_cast<const std::int32_t*>(numbers_.device());
    shared.num_spans = static_cast<std::int32_t>(spans_.size());
    shared.host_spans = spans_.data();
    shared.host_own_begin = host + own_begin_;
    shared.host_heads = runs.host_heads;
    shared.host_row_spans = {host + first_, host + index_};
    shared.row_spans = {device + first_, device + index_};
    shared.spans = reinterpret_cast<const SharedSpan*>(list_.device());
    shared.own_start = device + own_start_;
    shared.heads = runs.heads;
    return shared;
  }

 private:
  std::size_t put(const std::vector<std::int32_t>& values) {
    ints_.insert(ints_.end(), values.begin(), values.end());
    return ints_.size() - values.size();
  }

  std::vector<SharedSpan> spans_;
  std::vector<std::int32_t> ints_;
  std::size_t own_begin_ = 0, own_start_ = 0, first_ = 0, index_ = 0;
  Twin numbers_, list_;
};

enum class Contents : std::uint8_t { random, equal };  // equal bytes: for timing

std::vector<RowShape> whole_rows(const Problem& problem) {
  std::vector<RowShape> rows;
  for (const SharingRow& row : problem.rows) rows.push_back({problem.own_begin(row) + row.own, row.count});
  return rows;
}
std::vector<RowShape> own_rows(const Problem& problem) {
  std::vector<RowShape> rows;
  for (const SharingRow& row : problem.rows) rows.push_back({row.own, row.count});
  return rows;
}
std::vector<RowShape> runs_of(const Problem& problem) {
  std::vector<RowShape> rows;
  for (const Beginning& beginning : problem.beginnings) rows.push_back({beginning.length, 0});
  return rows;
}

AttentionCase make_case(std::vector<RowShape> rows, const Shape& shape) {
  return AttentionCase(std::move(rows), shape.heads, shape.head_dim, shape.dtype, shape.segments, shape.gap,
                       shape.quant);
}

/// A problem's caches twice over: shared, and every row with all of it for itself.
class SharingCase {
 public:
  SharingCase(const Problem& problem, const Shape& shape, Contents contents)
      : problem_(problem),
        shape_(shape),
        whole_(make_case(whole_rows(problem), shape)),
        own_(make_case(own_rows(problem), shape)),
        runs_(make_case(runs_of(problem), shape)) {
    if (contents == Contents::equal) {
      for (AttentionCase* one : {&whole_, &own_, &runs_})
        FLEXGEN_CUDA_CALL(cudaMemset(one->cache_memory().device(), 0x11, one->cache_memory().size_bytes()));
      return;
    }
    runs_.randomise_cache(10, 1.0F);
    own_.randomise_cache(50021, 1.0F);
    fill_whole();
  }

  BatchView batch(Side side) { return whole_.batch(side); }
  KvView whole(Side side) { return whole_.cache(side); }
  KvView shared(Side side, SharedTables& tables) {
    KvView cache = own_.cache(side);
    cache.shared = tables.view(runs_.cache(side));
    return cache;
  }
  std::int64_t cols() const { return whole_.cols(); }
  AttentionCase& whole_case() { return whole_; }
  AttentionCase& own_case() { return own_; }

  /// Whether the new positions' bytes are the same in the cache of the rows alone and in that of those that share.
  bool same_new_positions() {
    const std::vector<std::byte> in_whole = whole_.cache_memory().download(), in_own = own_.cache_memory().download();
    bool same = true;
    for (std::size_t r = 0; r < problem_.rows.size(); ++r) {
      const SharingRow& row = problem_.rows[r];
      for (std::int32_t t = 0; t < row.count; ++t)
        for_each_piece(r, problem_.own_begin(row) + row.own + t, own_, r, row.own + t,
                       [&](std::uint64_t to, std::uint64_t from, std::uint64_t bytes) {
                         same = same && std::memcmp(&in_whole[to], &in_own[from], bytes) == 0;
                       });
    }
    return same;
  }

 private:
  /// visit(offset in the whole cache, offset in that of `from`, bytes): keys, values and parameters of a position.
  template <class Visit>
  void for_each_piece(std::size_t row, std::int64_t position, AttentionCase& from, std::size_t from_row,
                      std::int64_t from_position, const Visit& visit) {
    const bool plain = shape_.quant.is_none();
    const std::int64_t unit = plain ? static_cast<std::int64_t>(element_bytes(shape_.dtype)) : 1;
    const std::int64_t bytes = plain ? shape_.head_dim * unit : shape_.quant.code_bytes(shape_.head_dim);
    const KvView to_view = whole_.cache(Side::host), from_view = from.cache(Side::host);
    for (std::int32_t h = 0; h < shape_.heads; ++h) {
      const KvHead& a = to_view.host_heads[row * shape_.heads + h];
      const KvHead& b = from_view.host_heads[from_row * shape_.heads + h];
      const std::int64_t to = (a.base - whole_.cache_memory().host()) + position * a.position_stride * unit;
      const std::int64_t at = (b.base - from.cache_memory().host()) + from_position * b.position_stride * unit;
      visit(to, at, bytes);
      visit(to + a.v_offset * unit, at + b.v_offset * unit, bytes);
      if (plain) continue;
      visit(to + a.k_parameters, at + b.k_parameters, shape_.quant.parameter_bytes(shape_.head_dim));
      visit(to + a.v_parameters, at + b.v_parameters, shape_.quant.parameter_bytes(shape_.head_dim));
    }
  }

  void fill_whole() {
    const auto copy_from = [&](AttentionCase& from) {
      return [this, &from](std::uint64_t to, std::uint64_t at, std::uint64_t bytes) {
        std::memcpy(whole_.cache_memory().host() + to, from.cache_memory().host() + at, bytes);
      };
    };
    for (std::size_t r = 0; r < problem_.rows.size(); ++r) {
      const SharingRow& row = problem_.rows[r];
      std::int32_t position = 0;
      for (const std::int32_t beginning : problem_.chain_of(row.beginning))
        for (std::int32_t p = 0; p < problem_.beginnings[beginning].length; ++p)
          for_each_piece(r, position++, runs_, beginning, p, copy_from(runs_));
      for (std::int32_t p = 0; p < row.own + row.count; ++p)
        for_each_piece(r, position + p, own_, r, p, copy_from(own_));
    }
    whole_.cache_memory().upload();
  }

  const Problem& problem_;
  Shape shape_;
  AttentionCase whole_, own_, runs_;
};

double tolerance(const Shape& shape) {
  return shape.dtype == DType::float32 ? 5e-6 : shape.dtype == DType::float16 ? 2e-3 : 1.2e-2;
}

/// Rows of count 1 merge parts; everything else has the order of rows that share nothing.
bool is_merged(const Problem& problem, const Shape& shape) {
  if (!problem.any_decode() || shape.dtype == DType::float32 || shape.head_dim > 128 || shape.gap % 2 != 0)
    return false;
  return shape.head_dim % (shape.quant.is_none() ? 8 : 16) == 0;
}

void check_appended(const OpContext& context, Report& report, const Problem& problem, const Shape& shape) {
  SharingCase work(problem, shape, Contents::random);
  SharedTables tables(problem, static_cast<std::int32_t>(problem.rows.size()));
  const BatchView batch = work.batch(Side::device);
  TwinMatrix kv(batch.num_tokens, 2 * work.cols(), shape.dtype);
  kv.randomise(8, 1.0F);
  const MatrixView k = kv.device().col_range(0, work.cols()), v = kv.device().col_range(work.cols(), work.cols());
  append_kv_cuda(context, batch, k, v, work.whole(Side::device));
  append_kv_cuda(context, batch, k, v, work.shared(Side::device, tables));
  synchronise(context);
  report.check("append_kv, spans, " + shape.name() + ", " + problem.name, work.same_new_positions() ? 0.0 : 1.0, 0.0);
}

void check_problem(const OpContext& context, Report& report, const Problem& problem, const Shape& shape) {
  SharingCase work(problem, shape, Contents::random);
  const auto num_rows = static_cast<std::int32_t>(problem.rows.size());
  SharedTables tables(problem, num_rows);
  const std::string name = "spans, " + shape.name() + ", " + problem.name;
  const BatchView batch = work.batch(Side::device);
  TwinMatrix q(batch.num_tokens, work.cols(), shape.dtype, 2 * work.cols());
  TwinMatrix out(batch.num_tokens, work.cols(), shape.dtype, 16);
  q.randomise(9, 4.0F);
  const float scale = 1.0F / std::sqrt(static_cast<float>(shape.head_dim));
  attention_cuda(context, {batch, q.device(), work.shared(Side::device, tables), scale, out.device()});
  synchronise(context);
  attention_reference({work.batch(Side::host), q.host(), work.shared(Side::host, tables), scale, out.host()});
  report.compare(name, out, tolerance(shape));
  const std::vector<std::byte> shared_bytes = out.memory().download();

  attention_cuda(context, {batch, q.device(), work.whole(Side::device), scale, out.device()});
  synchronise(context);
  const std::vector<std::byte> whole_bytes = out.memory().download();
  if (is_merged(problem, shape)) {
    std::memcpy(out.memory().host(), shared_bytes.data(), shared_bytes.size());
    report.compare(name + ", = alone", out, tolerance(shape));
  } else {
    report.equal_bytes(name + ", = alone", shared_bytes, whole_bytes);
  }

  SharedTables first(problem, 1);  // the first row without the others
  BatchView one = batch;
  one.num_rows = 1;
  one.num_tokens = one.max_count = problem.rows[0].count;
  MatrixView one_q = q.device(), one_out = out.device();
  one_q.rows = one_out.rows = one.num_tokens;
  attention_cuda(context, {one, one_q, work.shared(Side::device, first), scale, one_out});
  synchronise(context);
  const std::vector<std::byte> one_bytes = out.memory().download();
  const std::size_t bytes = static_cast<std::size_t>(work.cols()) * element_bytes(shape.dtype);
  report.equal_bytes(name + ", first row", std::span(one_bytes).first(bytes), std::span(shared_bytes).first(bytes));
}

const std::vector<Problem>& problems() {
  static const std::vector<Problem> all = [] {
    std::vector<Problem> list{
        {"tree", {{-1, 128}, {0, 64}, {0, 192}, {2, 64}, {-1, 64}, {-1, 1024}}, {}},
        {"a span a row", {{-1, 64}, {-1, 320}, {-1, 576}, {-1, 1024}}, {{0, 0, 1}, {1, 5, 1}, {2, 100, 1}, {3, 64, 1}}},
        {"deep", {}, {}},
        {"many rows", {{-1, 64}, {0, 384}}, {}},
        {"long rows", {{-1, 256}}, {{0, 900, 1}, {0, 0, 1}, {0, 2100, 1}}},
        {"prompts", {{-1, 128}, {0, 448}}, {{1, 0, 130}, {0, 7, 2}, {-1, 0, 65}, {1, 64, 64}, {0, 90, 40}}}};
    list[0].rows = {{3, 17, 1}, {3, 0, 5}, {-1, 3, 5}, {2, 0, 130}, {-1, 200, 1}, {0, 0, 1}, {0, 63, 1}, {1, 1, 1}};
    for (const std::int32_t beginning : {1, 1, 2, 3, 3, 4, 5, 5}) list[0].rows.push_back({beginning, 11, 1});
    for (std::int32_t i = 0; i < 12; ++i) list[2].beginnings.push_back({i - 1, 64});
    for (const std::int32_t beginning : {11, 11, 11, 10, 4}) list[2].rows.push_back({beginning, 20, 1});
    for (std::int32_t i = 0; i < 118; ++i) list[3].rows.push_back({i < 48 ? 1 : 0, i % 37, 1});
    return list;
  }();
  return all;
}

void print_time(const OpContext& context, const char* name, const Problem& problem, const Shape& shape) {
  constexpr int kCases = 6, kCalls = 48;
  std::vector<std::unique_ptr<SharingCase>> cases;  // in turn, so that none is still in the GPU's cache
  for (int i = 0; i < kCases; ++i) cases.push_back(std::make_unique<SharingCase>(problem, shape, Contents::equal));
  SharedTables tables(problem, static_cast<std::int32_t>(problem.rows.size()));
  const BatchView batch = cases[0]->batch(Side::device);
  TwinMatrix q(batch.num_tokens, cases[0]->cols(), shape.dtype), out(batch.num_tokens, cases[0]->cols(), shape.dtype);
  q.randomise(9, 1.0F);
  const auto stream = static_cast<cudaStream_t>(context.stream);
  cudaEvent_t begin = nullptr, end = nullptr;
  FLEXGEN_CUDA_CALL(cudaEventCreate(&begin));
  FLEXGEN_CUDA_CALL(cudaEventCreate(&end));
  std::array<float, 2> microseconds{};
  for (const bool shares : {false, true}) {
    const auto call = [&](int i) {
      SharingCase& work = *cases[static_cast<std::size_t>(i % kCases)];
      const KvView cache = shares ? work.shared(Side::device, tables) : work.whole(Side::device);
      attention_cuda(context, {batch, q.device(), cache, 0.1F, out.device()});
    };
    for (int i = 0; i < kCases; ++i) call(i);
    FLEXGEN_CUDA_CALL(cudaEventRecord(begin, stream));
    for (int i = 0; i < kCalls; ++i) call(i);
    FLEXGEN_CUDA_CALL(cudaEventRecord(end, stream));
    FLEXGEN_CUDA_CALL(cudaEventSynchronize(end));
    float milliseconds = 0.0F;
    FLEXGEN_CUDA_CALL(cudaEventElapsedTime(&milliseconds, begin, end));
    microseconds[shares] = milliseconds * 1e3F / kCalls;
  }
  FLEXGEN_CUDA_CALL(cudaEventDestroy(begin));
  FLEXGEN_CUDA_CALL(cudaEventDestroy(end));
  std::printf("time %-24s %-32s alone %8.1f us, shared %8.1f us: %.2f times\n", name, shape.name().c_str(),
              microseconds[0], microseconds[1], microseconds[0] / microseconds[1]);
}

void print_times(const OpContext& context) {
  for (const std::int32_t num_rows : {8, 32}) {
    Problem problem{"decode", {{-1, 384}}, {}};
    for (std::int32_t r = 0; r < num_rows; ++r) problem.rows.push_back({0, 99, 1});
    const std::string rows = std::to_string(num_rows) + " rows, 384 + 100";
    for (const std::int32_t heads : {32, 56})  // OPT-6.7B and 30B
      for (const QuantFormat& quant : {QuantFormat{}, {4, 64}})
        print_time(context, (rows + (heads == 32 ? ", 6.7B" : ", 30B")).c_str(), problem,
                   {heads, 128, DType::float16, quant});
  }
}

void check_shared_spans(const OpContext& context, Report& report) {
  for (const Problem& problem : problems()) {
    for (const DType dtype : {DType::float32, DType::float16, DType::bfloat16})
      for (const std::int32_t head_dim : {64, 80, 128}) {
        check_problem(context, report, problem, {2, head_dim, dtype});
        for (const std::int32_t bits : {4, 8})
          check_problem(context, report, problem, {5, head_dim, dtype, {bits, head_dim == 80 ? 32 : 64}});
      }
  }
  for (const Problem& problem : {problems()[0], problems()[5]}) {
    for (const DType dtype : {DType::float32, DType::float16})
      for (const Shape& shape : {Shape{4, 64, dtype, {}, 2}, Shape{2, 64, dtype, {}, 1, 1}, Shape{2, 256, dtype},
                                 Shape{5, 128, dtype, {4, 128}, 2}, Shape{2, 20, dtype}}) {
        check_problem(context, report, problem, shape);
        check_appended(context, report, problem, shape);
      }
    check_appended(context, report, problem, {5, 128, DType::bfloat16, {8, 64}});
  }
  print_times(context);
}

constexpr CheckGroup kGroups[] = {{"shared_spans", check_shared_spans}};

}  // namespace

std::span<const CheckGroup> shared_spans_checks() { return kGroups; }

}  // namespace flexgen::gpu

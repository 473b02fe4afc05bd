// Attention of rows with one new token on the host, at the speed of memory.
//
// Shape chain, per (row, run of neighbouring heads, block of 64 positions): scores [heads, 64] = q . k -> weights ->
// sums [heads, dim] = sums * shrink + weights . v. Heads of a segment lie next to one another, so a block is read
// position by position over all heads of the run: as few, long, sequential streams. Blocks and the order of every sum
// are those of attention_host.cpp, so that a plain cache gives the same bits as there; what is a task never shows in a
// result. Source: as attention_host.cpp; work split over rows and heads as in NEO (Jiang et al. 2024).
#include <algorithm>
#include <bit>
#include <cstring>
#include <span>

#include "ops/attention.hpp"
#include "ops/cache_span.hpp"
#include "ops/host/host_kernels.hpp"
#include "ops/host/scratch.hpp"
#include "ops/host/shared_spans_host.hpp"
#include "ops/host/stored/stored_kernels.hpp"
#include "ops/host_scratch.hpp"
#include "ops/parallel_for.hpp"

namespace flexgen {
namespace {

// Elements of the heads of a task: queries, sums, and four positions ahead of the reading share the L1 cache.
constexpr std::int64_t kPlainRun = 2048;
constexpr std::int64_t kCompressedRun = 4096;
constexpr std::int64_t kTasksPerThread = 4;  // so that ragged lengths balance
constexpr std::int64_t kWorthThreads = 32768;

struct DecodeTask {
  std::int32_t row = 0, first_head = 0, num_heads = 0;
  std::int64_t work = 0;
};

constexpr int kBinShift = 18;                                    // thirty-two bins to an octave of weights
constexpr std::uint32_t kBins = (0x3F800000U >> kBinShift) + 2;  // up to 1.0F, and one of what is no number

struct Choice {
  std::uint32_t weight;  // the bits of a weight, which are in order; a NaN is the largest
  std::int32_t position;
};

/// Heads of one task at most.
std::int64_t most_heads(const QuantFormat& quant, std::int64_t head_dim) {
  return std::max<std::int64_t>(1, (quant.is_none() ? kPlainRun : kCompressedRun) / head_dim);
}

/// What a task takes of its thread. Of `length` positions, all scores are kept where only some values are read.
struct DecodeScratch {
  std::int64_t arranged, score_stride, wide_dim, kernels;  // floats
  std::int64_t num_heads, num_choices;

  DecodeScratch(const StoredHeads& heads, std::int64_t length, bool sparse)
      : arranged(stored_kernels().arranged_floats(heads)),
        score_stride(sparse ? (length + kBlockKeys - 1) / kBlockKeys * kBlockKeys : kBlockKeys),
        wide_dim((heads.head_dim + 15) / 16 * 16),
        kernels(stored_kernels().scratch_floats(heads)),
        num_heads(heads.num_heads),
        num_choices(sparse ? length : 0) {}

  std::int64_t floats() const { return num_heads * (2 * arranged + score_stride) + wide_dim + kernels; }
  std::uint64_t bytes() const {
    return scratch_piece_bytes<float>(floats()) + scratch_piece_bytes<SoftmaxState>(num_heads) +
           scratch_piece_bytes<Choice>(num_choices) + scratch_piece_bytes<std::int32_t>(num_choices);
  }
};

/// What the calling thread takes: a head may be a task.
std::int64_t most_tasks(std::int64_t rows, std::int64_t num_heads) { return rows * num_heads; }

/// What the one new token of a row attends of the row's own positions.
VisibleRange seen_of(const AttentionArgs& args, std::int32_t row) {
  const VisibleRange seen = visible_range(row_tokens_on_host(args.batch, row).start);
  return {std::max(seen.first, own_begin_on_host(args.cache, row)), seen.end};
}

/// Addresses of the first of them: keys, values.
struct HeadPlace {
  StoredPlace key, value;
  std::int64_t position_stride;
};

HeadPlace place_of(const AttentionArgs& args, std::int32_t row, std::int64_t head) {
  const RowTokens tokens = row_tokens_on_host(args.batch, row);
  const CacheSpan span =
      span_of_query_head(args.cache.host_heads, args.cache.num_heads, row, static_cast<std::int32_t>(head), tokens);
  const std::int64_t first = seen_of(args, row).first - own_begin_on_host(args.cache, row);
  const std::int64_t unit = cache_unit_bytes(args.cache.quant, args.q.dtype);
  if (args.cache.quant.is_none())
    return {
        {span.at(CachePart::keys, first, unit)}, {span.at(CachePart::values, first, unit)}, span.position_bytes(unit)};
  return {{span.at(CachePart::keys, first, unit), span.parameters(CachePart::keys, first)},
          {span.at(CachePart::values, first, unit), span.parameters(CachePart::values, first)},
          span.position_bytes(unit)};
}

/// Heads from `first` on that lie at equal distances, keys and values alike, within a position.
std::int64_t run_length(const AttentionArgs& args, std::int32_t row, std::int64_t first, std::int64_t most) {
  const HeadPlace start = place_of(args, row, first);
  std::int64_t data = 0, parameters = 0;
  for (std::int64_t i = 1; i < most; ++i) {
    const HeadPlace place = place_of(args, row, first + i);
    if (i == 1) {
      data = place.key.data - start.key.data;
      parameters = place.key.parameters - start.key.parameters;
      // Heads farther apart than positions: one after the other is the sequential order.
      if (data <= 0 || data >= start.position_stride || parameters < 0 || parameters >= start.position_stride) return 1;
    }
    if (place.position_stride != start.position_stride || place.key.data - start.key.data != i * data ||
        place.value.data - start.value.data != i * data ||
        place.key.parameters - start.key.parameters != i * parameters ||
        place.value.parameters - start.value.parameters != i * parameters)
      return i;
  }
  return most;
}

class DecodeRun {
 public:
  /// `shared`: where the row's softmax stands when it comes to its own positions.
  DecodeRun(const AttentionArgs& args, const DecodeTask& task, const SharedStates& shared)
      : args_(args),
        task_(task),
        shared_(shared),
        dim_(args.cache.head_dim),
        seen_(seen_of(args, task.row)),
        length_(seen_.length()),
        place_(place_of(args, task.row, task.first_head)) {
    heads_ = one_stored_head(args.q.dtype, args.cache.quant, dim_);
    heads_.num_heads = task.num_heads;
    heads_.position_stride = place_.position_stride;
    if (task.num_heads > 1) {
      const HeadPlace second = place_of(args, task.row, task.first_head + 1);
      heads_.head_stride = second.key.data - place_.key.data;
      heads_.parameter_stride = second.key.parameters - place_.key.parameters;
    }
  }

  void run() {
    const std::int64_t n = task_.num_heads;
    const bool sparse = args_.sparsity < 1.0F && num_chosen_positions(args_.sparsity, seen_) < length_ - 1;
    const DecodeScratch sizes(heads_, length_, sparse);
    const std::int64_t arranged = sizes.arranged;
    ScratchFrame scratch;
    float* q = scratch.floats(sizes.floats());
    use_.score_stride = sizes.score_stride;
    use_.sums = q + n * arranged;
    use_.score = use_.sums + n * arranged;
    use_.wide = use_.score + n * use_.score_stride;
    use_.scratch = use_.wide + sizes.wide_dim;
    use_.states = scratch.take<SoftmaxState>(sizes.num_heads);
    use_.choices = scratch.take<Choice>(sizes.num_choices);
    use_.chosen_positions = scratch.take<std::int32_t>(sizes.num_choices);
    const std::int64_t token = row_tokens_on_host(args_.batch, task_.row).first_token;
    for (std::int64_t h = 0; h < n; ++h) {
      kernels_.to_float(element(args_.q, token, h), args_.q.dtype, use_.wide, dim_);
      stored_.arrange_query(heads_, use_.wide, q + h * arranged);
    }
    begin(arranged);
    if (sparse) take_chosen(q, arranged, num_chosen_positions(args_.sparsity, seen_));
    else take_all(q, arranged);
    for (std::int64_t h = 0; h < n; ++h) {
      stored_.collect_sums(heads_, use_.sums + h * arranged, use_.wide);
      for (std::int64_t d = 0; d < dim_; ++d) use_.wide[d] /= use_.states[h].weight;
      kernels_.from_float(use_.wide, element(args_.out, token, h), args_.out.dtype, dim_);
    }
  }

 private:
  void begin(std::int64_t arranged) {
    std::fill(use_.states, use_.states + task_.num_heads, kNothingSeen);
    std::fill(use_.sums, use_.sums + task_.num_heads * arranged, 0.0F);
    if (!shared_.has(task_.row)) return;
    for (std::int64_t h = 0; h < task_.num_heads; ++h) {
      use_.states[h] = shared_.state(task_.row, task_.first_head + h);
      std::copy_n(shared_.sums(task_.row, task_.first_head + h), arranged, use_.sums + h * arranged);
    }
  }

  std::byte* element(const MatrixView& view, std::int64_t token, std::int64_t head) const {
    const auto col = static_cast<std::uint64_t>((task_.first_head + head) * dim_);
    return view.row(token) + col * element_bytes(view.dtype);
  }
  StoredPlace at(const StoredPlace& place, std::int64_t position) const {
    const std::int64_t offset = position * place_.position_stride;
    return {place.data + offset, place.parameters == nullptr ? nullptr : place.parameters + offset};
  }

  void take_all(const float* q, std::int64_t arranged) {
    for (std::int64_t first = 0; first < length_; first += kBlockKeys) {
      const std::int64_t count = std::min(kBlockKeys, length_ - first);
      const StoredPlace values = at(place_.value, first);
      stored_.scores(heads_, at(place_.key, first), values, count, q, use_.score, kBlockKeys, use_.scratch);
      for (std::int64_t h = 0; h < task_.num_heads; ++h) {
        const float shrink = kernels_.softmax_step(use_.score + h * kBlockKeys, count, args_.scale, &use_.states[h]);
        float* sums = use_.sums + h * arranged;
        if (shrink != 1.0F)
          for (std::int64_t i = 0; i < arranged; ++i) sums[i] *= shrink;
      }
      const StoredPlace next = first + kBlockKeys < length_ ? at(place_.key, first + kBlockKeys) : StoredPlace{};
      stored_.add_values(heads_, values, next, count, use_.score, kBlockKeys, use_.sums, use_.scratch);
    }
  }

  /// All scores first, then the values of the largest weights.
  void take_chosen(const float* q, std::int64_t arranged, std::int64_t num_chosen) {
    for (std::int64_t first = 0; first < length_; first += kBlockKeys) {
      const StoredPlace next = first + kBlockKeys < length_ ? at(place_.key, first + kBlockKeys) : StoredPlace{};
      stored_.scores(heads_, at(place_.key, first), next, std::min(kBlockKeys, length_ - first), q, use_.score + first,
                     use_.score_stride, use_.scratch);
    }
    StoredHeads one = heads_;
    one.num_heads = 1;
    for (std::int64_t h = 0; h < task_.num_heads; ++h) {
      float* weight = use_.score + h * use_.score_stride;
      static_cast<void>(kernels_.softmax_step(weight, length_, args_.scale, &use_.states[h]));
      choose(weight, num_chosen);
      const auto place = [&](const StoredPlace& base) -> StoredPlace {
        return {base.data + h * heads_.head_stride,
                base.parameters == nullptr ? nullptr : base.parameters + h * heads_.parameter_stride};
      };
      stored_.add_chosen_values(one, place(place_.value), use_.chosen_positions, num_chosen + 1, weight,
                                use_.sums + h * arranged, use_.scratch);
    }
  }

  /// Leaves the positions of the largest weights, and the last one, in use_.chosen_positions, and those weights in
  /// front.
  void choose(float* weight, std::int64_t num_chosen) const {
    const auto bits = [&](std::int64_t p) { return std::bit_cast<std::uint32_t>(weight[p]); };
    const auto bin_of = [](std::uint32_t of) { return std::min<std::uint32_t>(of >> kBinShift, kBins - 1); };
    // Weights are counted by bins; only the bin with the last chosen weight is looked at more closely.
    std::int32_t count[kBins] = {};
    for (std::int64_t p = 0; p < length_ - 1; ++p) ++count[bin_of(bits(p))];
    std::uint32_t bin = kBins - 1;
    std::int64_t left = num_chosen;
    for (; bin > 0 && count[bin] < left; --bin) left -= count[bin];
    Choice* choices_end = use_.choices;
    for (std::int64_t p = 0; p < length_ - 1 && left > 0; ++p)
      if (bin_of(bits(p)) == bin) *choices_end++ = {bits(p), static_cast<std::int32_t>(p)};
    const auto before = [](const Choice& a, const Choice& b) {
      return a.weight != b.weight ? a.weight > b.weight : a.position < b.position;
    };
    if (left > 0) std::nth_element(use_.choices, use_.choices + (left - 1), choices_end, before);
    std::int64_t num_positions = 0;
    for (std::int64_t p = 0; p < length_ - 1 && num_chosen > 0; ++p) {
      const std::uint32_t own_bin = bin_of(bits(p));
      if (own_bin < bin) continue;
      const Choice own{bits(p), static_cast<std::int32_t>(p)};
      if (own_bin == bin && before(use_.choices[left - 1], own)) continue;
      use_.chosen_positions[num_positions++] = own.position;
    }
    use_.chosen_positions[num_positions++] = static_cast<std::int32_t>(length_ - 1);
    for (std::int64_t i = 0; i < num_positions; ++i) weight[i] = weight[use_.chosen_positions[i]];
  }

  const AttentionArgs& args_;
  const DecodeTask& task_;
  const SharedStates& shared_;
  const HostKernels& kernels_ = host_kernels();
  const StoredKernels& stored_ = stored_kernels();
  const std::int64_t dim_;
  const VisibleRange seen_;
  const std::int64_t length_;  // of what is seen; positions count from its first
  const HeadPlace place_;
  StoredHeads heads_;
  // Of the thread's scratch.
  struct {
    std::int64_t score_stride = 0;
    float* sums = nullptr;                     // [heads, arranged]
    float* score = nullptr;                    // [heads, score_stride]
    float* wide = nullptr;                     // [dim]
    float* scratch = nullptr;                  // of the kernels
    SoftmaxState* states = nullptr;            // [heads]
    Choice* choices = nullptr;                 // [length]
    std::int32_t* chosen_positions = nullptr;  // [length]
  } use_;
};

/// Runs of heads of all rows, the longest first. `tasks` has room for most_tasks.
std::span<const DecodeTask> list_tasks(const AttentionArgs& args, int num_threads, DecodeTask* tasks) {
  const std::int64_t num_heads = args.cache.num_heads;
  const std::int64_t heads_at_most = most_heads(args.cache.quant, args.cache.head_dim);
  std::int64_t total = 0;
  for (std::int32_t row = 0; row < args.batch.num_rows; ++row)
    if (row_tokens_on_host(args.batch, row).is_decode()) total += num_heads * seen_of(args, row).length();
  const std::int64_t target = total / (kTasksPerThread * num_threads);
  DecodeTask* end = tasks;
  for (std::int32_t row = 0; row < args.batch.num_rows; ++row) {
    if (!row_tokens_on_host(args.batch, row).is_decode()) continue;
    const std::int64_t length = seen_of(args, row).length();
    const std::int64_t most =
        num_threads == 1 ? heads_at_most : std::clamp<std::int64_t>(target / length, 1, heads_at_most);
    for (std::int64_t head = 0; head < num_heads;) {
      const std::int64_t run = run_length(args, row, head, num_heads - head);
      const std::int64_t parts = (run + most - 1) / most;
      for (std::int64_t part = 0; part < parts; ++part) {
        const std::int64_t first = run * part / parts, count = run * (part + 1) / parts - first;
        *end++ = {row, static_cast<std::int32_t>(head + first), static_cast<std::int32_t>(count), count * length};
      }
      head += run;
    }
  }
  std::sort(tasks, end, [](const DecodeTask& a, const DecodeTask& b) {
    return a.work != b.work ? a.work > b.work : a.row != b.row ? a.row < b.row : a.first_head < b.first_head;
  });
  return {tasks, end};
}

}  // namespace

void attention_decode_host(const AttentionArgs& args, ThreadPool& pool) {
  const std::int64_t work = static_cast<std::int64_t>(args.cache.num_heads) * args.cache.head_dim *
                            args.batch.num_rows * args.batch.max_length;
  const int num_threads = work > kWorthThreads ? pool.num_threads() : 1;
  ScratchFrame scratch;
  const std::span<const DecodeTask> tasks =
      list_tasks(args, num_threads, scratch.take<DecodeTask>(most_tasks(args.batch.num_rows, args.cache.num_heads)));
  const SharedStates shared(args, scratch);
  attend_shared_spans(args, pool, num_threads > 1, shared);
  parallel_for(pool, static_cast<std::int64_t>(tasks.size()), num_threads > 1,
               [&](std::int64_t task) { DecodeRun(args, tasks[static_cast<std::size_t>(task)], shared).run(); });
}

std::uint64_t attention_decode_scratch_bytes(const AttentionSizes& most) {
  StoredHeads heads{most.dtype, most.quant, most.head_dim};
  heads.num_heads = std::min(most.num_heads, most_heads(most.quant, most.head_dim));
  const std::uint64_t tasks = scratch_piece_bytes<DecodeTask>(most_tasks(most.rows, most.num_heads));
  const std::uint64_t run = DecodeScratch(heads, most.longest, most.sparsity < 1.0F).bytes();
  if (!most.shares_spans) return tasks + run;
  return tasks + SharedStates::bytes(most) + std::max(run, shared_spans_scratch_bytes(most));
}

}  // namespace flexgen

// sample_rows on the host: one thread a row, nothing is sorted but the alternatives.
//
// Tokens that may be chosen are listed in order of their ids; each limit finds where the order by likelihood is to be
// cut, by a histogram of the logits' bits, and strikes what lies behind the cut off the list.
#include <algorithm>
#include <array>
#include <cmath>
#include <functional>
#include <limits>
#include <numeric>
#include <span>

#include "ops/host/host_kernels.hpp"
#include "ops/host/host_ops.hpp"
#include "ops/host/scratch.hpp"
#include "ops/host_scratch.hpp"
#include "ops/parallel_for.hpp"
#include "ops/sampling_draw.hpp"

namespace flexgen {
namespace {

constexpr float kInfinity = std::numeric_limits<float>::infinity();
constexpr std::int64_t kShortestRun = 16;

std::int64_t padded(std::int64_t vocab) { return (vocab + 15) / 16 * 16; }
std::int64_t most_runs(std::int64_t vocab) { return vocab / kShortestRun + 1; }

/// Arrays of one row's work; those of candidates are in order of ids.
struct RowScratch {
  RowScratch(ScratchFrame& frame, std::int64_t vocab)
      : key(frame.take<std::int32_t>(padded(vocab))),
        id(frame.take<std::int32_t>(padded(vocab))),
        weight(frame.floats(padded(vocab))),
        run_largest(frame.take<std::int32_t>(most_runs(vocab))) {}

  std::int32_t* key;
  std::int32_t* id;
  float* weight;
  std::int32_t* run_largest;
};

std::uint64_t sum_weights(const float* weight, std::int64_t count) {
  std::uint64_t sum = 0;
  for (std::int64_t i = 0; i < count; ++i) sum += whole_weight(weight[i]);
  return sum;
}

/// Tokens that may be chosen.
struct Candidates {
  std::int32_t* id;
  std::int32_t* key;
  float* weight;
  std::int64_t count;

  /// Strikes off all but those of which `is_kept(index)`, asked in order of ids, holds.
  template <class IsKept>
  void keep(IsKept is_kept) {
    std::int64_t kept = 0;
    for (std::int64_t i = 0; i < count; ++i) {
      const bool stays = is_kept(i);
      id[kept] = id[i];
      key[kept] = key[i];
      weight[kept] = weight[i];
      kept += stays;
    }
    count = kept;
  }
  std::uint64_t total() const { return sum_weights(weight, count); }
};

void fill_keys(const float* logit, std::int64_t vocab, std::int32_t* key) {
  for (std::int64_t i = 0; i < vocab; ++i) key[i] = order_key(logit[i]);
}

/// value: logits, which become weights.
void make_weights(float* value, std::int64_t count, float largest, float temperature) {
  for (std::int64_t i = 0; i < count; ++i) value[i] = token_weight(value[i], largest, temperature);
}

/// No key of the `wanted` largest is below it: of so many runs of tokens each has a key that is as large.
std::int32_t likely_bound(const RowScratch& scratch, std::int64_t vocab, std::int64_t wanted) {
  const std::int64_t run = std::clamp(vocab / (8 * wanted), kShortestRun, std::int64_t{1024});
  const std::int64_t num_runs = vocab / run;
  if (num_runs < wanted) return std::numeric_limits<std::int32_t>::min();
  for (std::int64_t r = 0; r < num_runs; ++r) {
    const std::int32_t* key = scratch.key + r * run;
    std::int32_t largest = key[0];
    for (std::int64_t i = 1; i < run; ++i) largest = std::max(largest, key[i]);
    scratch.run_largest[r] = largest;
  }
  std::int32_t* last = scratch.run_largest + wanted - 1;
  std::nth_element(scratch.run_largest, last, scratch.run_largest + num_runs, std::greater<>());
  return *last;
}

/// Lists the tokens whose key is `bound` or more; returns how many. scratch.key becomes theirs.
std::int64_t list_candidates(const RowScratch& scratch, std::int64_t vocab, std::int32_t bound) {
  std::int64_t count = 0;
  for (std::int64_t i = 0; i < vocab; ++i) {
    const std::int32_t key = scratch.key[i];
    scratch.id[count] = static_cast<std::int32_t>(i);
    scratch.key[count] = key;
    count += key >= bound;
  }
  return count;
}

/// Keeps the likeliest candidates, as few as together have a mass of `wanted`; all together have that much. Equal
/// keys have equal mass.
template <class Mass>
void keep_first(Candidates& candidates, std::uint64_t wanted, Mass mass) {
  constexpr std::uint32_t kSign = 0x80000000U;
  constexpr std::uint32_t kDigits = 2048;
  std::uint32_t found = 0, found_mask = 0;  // bits of the last key that is kept
  for (const int shift : {21, 10, 0}) {
    std::array<std::uint64_t, kDigits> sum{};
    for (std::int64_t i = 0; i < candidates.count; ++i) {
      const std::uint32_t bits = static_cast<std::uint32_t>(candidates.key[i]) ^ kSign;
      if ((bits & found_mask) == found) sum[bits >> shift & (kDigits - 1)] += mass(i);
    }
    std::uint32_t digit = kDigits - 1;
    for (; sum[digit] < wanted; --digit) wanted -= sum[digit];
    found |= digit << shift;
    found_mask |= (kDigits - 1) << shift;
  }
  const auto last = static_cast<std::int32_t>(found ^ kSign);
  std::uint64_t taken = 0;  // of candidates that have the last key
  candidates.keep([&](std::int64_t i) {
    if (candidates.key[i] != last) return candidates.key[i] > last;
    if (taken >= wanted) return false;
    taken += mass(i);
    return true;
  });
}

/// The `wanted` likeliest tokens and perhaps others.
Candidates likely_candidates(const RowScratch& scratch, const float* logit, std::int64_t vocab, std::int64_t wanted) {
  fill_keys(logit, vocab, scratch.key);
  Candidates candidates{scratch.id, scratch.key, scratch.weight, vocab};
  if (wanted < vocab) candidates.count = list_candidates(scratch, vocab, likely_bound(scratch, vocab, wanted));
  else std::iota(scratch.id, scratch.id + vocab, 0);
  return candidates;
}

void keep_nucleus(Candidates& candidates, float top_p) {
  const std::uint64_t total = candidates.total();
  // All that are less likely than this are together less than what may be left out: most tokens go at once.
  const auto least =
      static_cast<float>(0.5 * (1.0 - static_cast<double>(top_p)) * static_cast<double>(total) /
                         static_cast<double>(candidates.count) / static_cast<double>(whole_weight(1.0F)));
  candidates.keep([&](std::int64_t i) { return candidates.weight[i] >= least; });
  keep_first(candidates, nucleus_weight(top_p, total),
             [&](std::int64_t i) { return whole_weight(candidates.weight[i]); });
}

/// Index of the first candidate that weighs together with those before it more than `place`: less than all weigh.
std::int64_t find_place(const Candidates& candidates, std::uint64_t place) {
  constexpr std::int64_t kRun = 512;
  std::int64_t i = 0;
  for (; candidates.count - i > kRun; i += kRun) {  // run by run, which is faster
    const std::uint64_t run = sum_weights(candidates.weight + i, kRun);
    if (run > place) break;
    place -= run;
  }
  for (;; ++i) {
    const std::uint64_t one = whole_weight(candidates.weight[i]);
    if (one > place) return i;
    place -= one;
  }
}

/// largest: the largest logit, which is finite.
std::int32_t draw(const RowScratch& scratch, const float* logit, std::int64_t vocab, float largest,
                  const SampleRow& row) {
  const std::int64_t top_k = row.top_k > 0 ? std::min<std::int64_t>(row.top_k, vocab) : vocab;
  Candidates candidates = likely_candidates(scratch, logit, vocab, top_k);
  if (candidates.count > top_k)
    keep_first(candidates, static_cast<std::uint64_t>(top_k), [](std::int64_t) { return std::uint64_t{1}; });
  if (candidates.count == vocab) std::copy_n(logit, vocab, candidates.weight);
  else
    for (std::int64_t i = 0; i < candidates.count; ++i) candidates.weight[i] = logit[candidates.id[i]];
  make_weights(candidates.weight, candidates.count, largest, row.temperature);
  if (row.top_p < 1.0F) keep_nucleus(candidates, row.top_p);
  if (row.min_p > 0.0F) candidates.keep([&](std::int64_t i) { return candidates.weight[i] >= row.min_p; });

  return candidates.id[find_place(candidates, draw_below(candidates.total(), row.seed, row.draw))];
}

std::int32_t argmax(const float* logit, std::int64_t vocab) {
  const std::int64_t best = host_kernels().argmax(logit, vocab);
  return best >= 0 && logit[best] != kInfinity ? static_cast<std::int32_t>(best) : -1;
}

std::int32_t choose(const RowScratch& scratch, float* logit, std::int64_t vocab, const SampleRow& row,
                    std::span<TokenAdjustment> adjustments) {
  for (TokenAdjustment& one : adjustments) {
    one.own_logit = logit[one.token];
    logit[one.token] = adjusted(one.own_logit, row, one);
  }
  std::int32_t token = argmax(logit, vocab);
  if (token >= 0 && row.temperature > 0.0F && logit[token] != -kInfinity)
    token = draw(scratch, logit, vocab, logit[token], row);
  for (const TokenAdjustment& one : adjustments) logit[one.token] = one.own_logit;
  return token;
}

/// The log-probabilities of a row: a logit less both numbers, as log_probabilities has them.
struct LogSoftmax {
  float largest;
  float log_weight;

  float operator()(float logit) const { return logit - largest - log_weight; }
};

LogSoftmax log_softmax(const RowScratch& scratch, const float* logit, std::int64_t vocab) {
  std::copy_n(logit, vocab, scratch.weight);
  SoftmaxState state = kNothingSeen;
  host_kernels().softmax_step(scratch.weight, vocab, 1.0F, &state);
  return {state.largest, std::log(state.weight)};
}

/// The likeliest `count` tokens in their order, as long as there are any.
std::span<const std::int32_t> likeliest(const RowScratch& scratch, const float* logit, std::int64_t vocab,
                                        std::int64_t count) {
  count = std::min(count, vocab);
  const Candidates candidates = likely_candidates(scratch, logit, vocab, count);
  std::partial_sort(
      candidates.id, candidates.id + count, candidates.id + candidates.count,
      [&](std::int32_t a, std::int32_t b) { return logit[a] > logit[b] || (logit[a] == logit[b] && a < b); });
  return {candidates.id, static_cast<std::size_t>(count)};
}

void sample_row(const SampleRowsArgs& args, std::int64_t r, const RowScratch& scratch) {
  const SampleRow& row = args.row[r];
  const std::int64_t vocab = args.logits.cols;
  auto* logit = reinterpret_cast<float*>(args.logits.row(r));
  std::int32_t token = argmax(logit, vocab);
  const bool is_number = token >= 0;
  if (is_number && row.given_token >= 0) token = row.given_token;
  else if (is_number)
    token = choose(scratch, logit, vocab, row,
                   {args.adjustment + row.first_adjustment, static_cast<std::size_t>(row.num_adjustments)});
  args.token[r] = token;
  if (args.log_probability == nullptr) return;

  const LogSoftmax log_probability = is_number ? log_softmax(scratch, logit, vocab) : LogSoftmax{};
  args.log_probability[r] = token >= 0 ? log_probability(logit[token]) : 0.0F;
  std::int64_t i = r * args.max_top;
  if (is_number && row.num_top > 0)
    for (const std::int32_t likely : likeliest(scratch, logit, vocab, row.num_top)) {
      args.top_token[i] = likely;
      args.top_log_probability[i++] = log_probability(logit[likely]);
    }
  for (; i < (r + 1) * args.max_top; ++i) args.top_token[i] = -1, args.top_log_probability[i] = 0.0F;
}

}  // namespace

std::uint64_t sample_rows_scratch_bytes(std::int64_t vocab) {
  return 3 * scratch_piece_bytes<float>(padded(vocab)) + scratch_piece_bytes<std::int32_t>(most_runs(vocab));
}

void sample_rows_host(const SampleRowsArgs& args) {
  const std::int64_t vocab = args.logits.cols;
  parallel_ranges(args.logits.rows, 1 + 4096 / vocab, [&](std::int64_t first, std::int64_t count) {
    ScratchFrame frame;
    const RowScratch scratch(frame, vocab);
    for (std::int64_t r = first; r < first + count; ++r) sample_row(args, r, scratch);
  });
}

}  // namespace flexgen

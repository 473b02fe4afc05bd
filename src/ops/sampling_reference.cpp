#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>
#include <vector>

#include "ops/element_access.hpp"
#include "ops/sampling.hpp"
#include "ops/sampling_draw.hpp"

namespace flexgen {
namespace {

/// The likeliest `count` tokens in their order.
std::vector<std::int32_t> likeliest(const float* logit, std::int64_t vocab, std::int64_t count) {
  std::vector<std::int32_t> order(static_cast<std::size_t>(vocab));
  std::iota(order.begin(), order.end(), 0);
  std::stable_sort(order.begin(), order.end(), [&](std::int32_t a, std::int32_t b) { return logit[a] > logit[b]; });
  order.resize(static_cast<std::size_t>(std::min(count, vocab)));
  return order;
}

std::int32_t draw_reference(const float* logit, std::int64_t vocab, const SampleRow& row) {
  std::vector<std::int32_t> kept = likeliest(logit, vocab, row.top_k > 0 ? row.top_k : vocab);
  const float largest = logit[kept.front()];
  const auto weight = [&](std::int32_t token) { return token_weight(logit[token], largest, row.temperature); };
  const auto sum = [&] {
    std::uint64_t total = 0;
    for (const std::int32_t token : kept) total += whole_weight(weight(token));
    return total;
  };
  if (row.top_p < 1.0F) {
    const std::uint64_t wanted = nucleus_weight(row.top_p, sum());
    std::uint64_t total = 0;
    const auto last =
        std::ranges::find_if(kept, [&](auto token) { return (total += whole_weight(weight(token))) >= wanted; });
    kept.erase(last + 1, kept.end());
  }
  std::erase_if(kept, [&](std::int32_t token) { return weight(token) < row.min_p; });
  std::ranges::sort(kept);
  const std::uint64_t place = draw_below(sum(), row.seed, row.draw);
  std::uint64_t total = 0;
  return *std::ranges::find_if(kept, [&](auto token) { return (total += whole_weight(weight(token))) > place; });
}

std::int32_t choose_reference(const float* own_logit, std::int64_t vocab, const SampleRow& row,
                              TokenAdjustment* adjustments) {
  std::vector<float> logit(own_logit, own_logit + vocab);
  for (TokenAdjustment* one = adjustments; one != adjustments + row.num_adjustments; ++one) {
    one->own_logit = own_logit[one->token];
    logit[static_cast<std::size_t>(one->token)] = adjusted(one->own_logit, row, *one);
  }
  std::int32_t token = -1;
  argmax_rows_reference(contiguous_view(reinterpret_cast<std::byte*>(logit.data()), 1, vocab, DType::float32), &token);
  const bool is_sure = token < 0 || row.temperature == 0.0F ||
                       logit[static_cast<std::size_t>(token)] == -std::numeric_limits<float>::infinity();
  return is_sure ? token : draw_reference(logit.data(), vocab, row);
}

}  // namespace

void argmax_rows_reference(const MatrixView& logits, std::int32_t* token) {
  for (std::int64_t r = 0; r < logits.rows; ++r) {
    std::int32_t best = 0;
    for (std::int64_t i = 0; i < logits.cols && best >= 0; ++i) {
      const float value = load_element(logits.row(r), logits.dtype, i);
      if (std::isnan(value)) best = -1;
      else if (value > load_element(logits.row(r), logits.dtype, best)) best = static_cast<std::int32_t>(i);
    }
    if (best >= 0 && load_element(logits.row(r), logits.dtype, best) == std::numeric_limits<float>::infinity())
      best = -1;
    token[r] = best;
  }
}

void log_probabilities_reference(const MatrixView& logits, const std::int32_t* target, float* score) {
  for (std::int64_t r = 0; r < logits.rows; ++r) {
    score[r] = 0.0F;
    if (target[r] < 0) continue;
    double largest = load_element(logits.row(r), logits.dtype, 0);
    for (std::int64_t i = 1; i < logits.cols; ++i)
      largest = std::max<double>(largest, load_element(logits.row(r), logits.dtype, i));
    double sum = 0;
    for (std::int64_t i = 0; i < logits.cols; ++i)
      sum += std::exp(load_element(logits.row(r), logits.dtype, i) - largest);
    score[r] = static_cast<float>(load_element(logits.row(r), logits.dtype, target[r]) - largest - std::log(sum));
  }
}

void sample_rows_reference(const SampleRowsArgs& args) {
  for (std::int64_t r = 0; r < args.logits.rows; ++r) {
    const SampleRow& row = args.row[r];
    const MatrixView logits = args.logits.row_range(r, 1);
    const auto* logit = reinterpret_cast<const float*>(logits.data);
    const auto log_probability = [&](std::int32_t token) {
      float score = 0.0F;
      log_probabilities_reference(logits, &token, &score);
      return score;
    };
    std::int32_t token = -1;
    argmax_rows_reference(logits, &token);
    const bool is_number = token >= 0;
    if (is_number)
      token = row.given_token >= 0 ? row.given_token
                                   : choose_reference(logit, logits.cols, row, args.adjustment + row.first_adjustment);
    args.token[r] = token;
    if (args.log_probability) args.log_probability[r] = log_probability(token);

    std::vector<std::int32_t> top = likeliest(logit, logits.cols, is_number ? row.num_top : 0);
    top.resize(static_cast<std::size_t>(args.max_top), -1);
    for (std::int64_t i = 0; i < args.max_top; ++i) {
      args.top_token[r * args.max_top + i] = top[static_cast<std::size_t>(i)];
      args.top_log_probability[r * args.max_top + i] = log_probability(top[static_cast<std::size_t>(i)]);
    }
  }
}

}  // namespace flexgen

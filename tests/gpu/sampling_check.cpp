// sample_rows on the GPU against its reference: the same tokens, the same alternatives.
#include "gpu_check.hpp"

namespace flexgen::gpu {
namespace {

/// What a call writes, on both sides. Log-probabilities are one row, so that errors count relative to the largest.
struct SamplingOutputs {
  SamplingOutputs(std::int64_t rows, std::int32_t max_top)
      : token(rows * sizeof(std::int32_t)),
        top_token(rows * max_top * sizeof(std::int32_t)),
        log_probability(1, rows, DType::float32),
        top_log_probability(1, rows * max_top, DType::float32) {}

  Twin token, top_token;
  TwinMatrix log_probability, top_log_probability;
};

template <class T>
Twin twin_of(const std::vector<T>& values) {
  Twin twin(values.size() * sizeof(T));
  std::memcpy(twin.host(), values.data(), twin.size_bytes());
  twin.upload();
  return twin;
}

SampleRow row_of(std::int64_t r) {
  constexpr float kTopP[] = {1.0F, 0.9F, 1e-6F}, kMinP[] = {0.0F, 0.1F, 0.0F, 0.0F, 1.0F};
  constexpr std::int32_t kTopK[] = {0, 40, 0, 1, 3000};
  SampleRow row;
  row.temperature = r % 4 == 0 ? 0.0F : 0.4F * static_cast<float>(r % 4);
  row.top_p = kTopP[r % 3], row.min_p = kMinP[r % 5], row.top_k = kTopK[r / 3 % 5];
  row.repetition_penalty = r % 2 == 0 ? 1.0F : 1.3F;
  row.presence_penalty = 0.5F, row.frequency_penalty = -0.25F;
  row.num_top = static_cast<std::int32_t>(r % 6);
  row.given_token = r % 11 == 5 ? 33 : -1;
  row.first_adjustment = static_cast<std::int32_t>(3 * r), row.num_adjustments = 3;
  row.seed = 0x123456789ULL * static_cast<std::uint64_t>(r), row.draw = static_cast<std::uint64_t>(r) << 31;
  return row;
}

void check_sampling_of(const OpContext& context, Report& report, std::int64_t vocab, std::int64_t gap, float scale) {
  constexpr std::int64_t kRows = 40;
  constexpr std::int32_t kMaxTop = 5;
  TwinMatrix logits(kRows, vocab, DType::float32, gap);
  logits.randomise(6, scale);
  auto* first = reinterpret_cast<float*>(logits.host().data);
  const auto row_at = [&](std::int64_t r) { return first + r * (vocab + gap); };
  row_at(3)[vocab / 2] = NAN;
  row_at(4)[vocab - 1] = INFINITY;
  std::fill_n(row_at(6), vocab, -INFINITY), row_at(6)[vocab / 4] = -2.0F;
  std::fill_n(row_at(7), vocab, 1.0F);  // all are equal
  std::fill_n(row_at(10), vocab, -0.0F), row_at(10)[vocab / 3] = 0.0F;
  logits.memory().upload();

  std::vector<SampleRow> rows;
  std::vector<TokenAdjustment> adjustments;
  for (std::int64_t r = 0; r < kRows; ++r) {
    rows.push_back(row_of(r));
    adjustments.insert(adjustments.end(), {{static_cast<std::int32_t>(r), 1, 0, 0.0F, 0.0F},
                                           {static_cast<std::int32_t>(r + 1), 0, 3, 1.5F, 0.0F},
                                           {static_cast<std::int32_t>(r + 2), 0, 0, -INFINITY, 0.0F}});
  }
  Twin row = twin_of(rows), adjustment = twin_of(adjustments);
  SamplingOutputs outputs(kRows, kMaxTop);
  const auto args_on = [&](Side side) {
    const auto at = [side](Twin& twin) { return side == Side::device ? twin.device() : twin.host(); };
    SampleRowsArgs args;
    args.logits = side == Side::device ? logits.device() : logits.host();
    args.row = reinterpret_cast<const SampleRow*>(at(row)), args.host_row = rows.data();
    args.adjustment = reinterpret_cast<TokenAdjustment*>(at(adjustment)), args.max_top = kMaxTop;
    args.token = reinterpret_cast<std::int32_t*>(at(outputs.token));
    args.top_token = reinterpret_cast<std::int32_t*>(at(outputs.top_token));
    args.log_probability = reinterpret_cast<float*>(at(outputs.log_probability.memory()));
    args.top_log_probability = reinterpret_cast<float*>(at(outputs.top_log_probability.memory()));
    return args;
  };
  sample_rows_cuda(context, args_on(Side::device));
  synchronise(context);
  sample_rows_reference(args_on(Side::host));
  const std::string name = "sample_rows " + std::to_string(vocab) + (scale < 1.0F ? " flat" : "");
  const auto compare_bytes = [&](const std::string& what, Twin& twin) {
    report.equal_bytes(name + what, twin.download(), {twin.host(), twin.size_bytes()});
  };
  compare_bytes(" tokens", outputs.token);
  compare_bytes(" alternatives", outputs.top_token);
  compare_bytes(" logits as they came", logits.memory());
  report.compare(name + " log-probabilities", outputs.log_probability, 2e-6);
  report.compare(name + " of alternatives", outputs.top_log_probability, 2e-6);
}

void check_sampling(const OpContext& context, Report& report) {
  for (const float scale : {0.01F, 8.0F}) {
    check_sampling_of(context, report, 50272, 0, scale);
    check_sampling_of(context, report, 4099, 1, scale);
    check_sampling_of(context, report, 60, 3, scale);
  }
}

constexpr CheckGroup kGroups[] = {{"sample_rows", check_sampling}};

}  // namespace

std::span<const CheckGroup> sampling_checks() { return kGroups; }

}  // namespace flexgen::gpu

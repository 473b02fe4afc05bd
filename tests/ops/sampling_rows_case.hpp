// Rows to be sampled and what comes of them on every device and by the reference: what tests of sample_rows share.
#pragma once

#include <gtest/gtest.h>

#include <limits>
#include <string>
#include <utility>
#include <vector>

#include "ops/sampling.hpp"
#include "tests/support/device_fixture.hpp"

namespace flexgen::test {

inline constexpr float kInfinity = std::numeric_limits<float>::infinity();

using Tokens = std::vector<std::int32_t>;

/// Rows to be sampled, and what came of them.
struct Sampling {
  HostMatrix logits;
  std::vector<SampleRow> rows;
  std::vector<TokenAdjustment> adjustments;
  std::int32_t max_top = 0;

  Tokens token, top_token;
  std::vector<float> log_probability, top_log_probability;

  explicit Sampling(HostMatrix of, SampleRow like = {})
      : logits(std::move(of)), rows(static_cast<std::size_t>(logits.rows()), like), max_top(like.num_top) {}

  void adjust(std::size_t row, std::vector<TokenAdjustment> list) {
    rows[row].first_adjustment = static_cast<std::int32_t>(adjustments.size());
    rows[row].num_adjustments = static_cast<std::int32_t>(list.size());
    adjustments.insert(adjustments.end(), list.begin(), list.end());
  }
  void make_room() {
    const std::size_t alternatives = rows.size() * static_cast<std::size_t>(max_top);
    token.assign(rows.size(), -77), log_probability.assign(rows.size(), -77.0F);
    top_token.assign(alternatives, -77), top_log_probability.assign(alternatives, -77.0F);
  }
};

inline TokenAdjustment bias(std::int32_t token, float value) { return {token, 0, 0, value, 0.0F}; }
inline TokenAdjustment ban(std::int32_t token) { return bias(token, -kInfinity); }

inline HostMatrix same_rows(std::int64_t rows, const std::vector<float>& logits) {
  HostMatrix matrix(rows, static_cast<std::int64_t>(logits.size()), DType::float32);
  for (std::int64_t r = 0; r < rows; ++r)
    for (std::size_t c = 0; c < logits.size(); ++c) matrix.set(r, static_cast<std::int64_t>(c), logits[c]);
  return matrix;
}

inline SampleRow at_temperature(float temperature, std::uint64_t seed = 0) {
  SampleRow row;
  row.temperature = temperature;
  row.seed = seed;
  return row;
}

class OnSampledRows : public OnDevice {
 protected:
  void run(Sampling& work) {
    work.make_room();
    const MatrixView logits = upload(work.logits);
    SampleRowsArgs args;
    args.logits = logits;
    args.host_row = work.rows.data(), args.row = upload(work.rows);
    args.adjustment = upload(work.adjustments), args.max_top = work.max_top;
    args.token = upload(work.token), args.log_probability = upload(work.log_probability);
    args.top_token = upload(work.top_token), args.top_log_probability = upload(work.top_log_probability);
    sample_rows(context(), args);
    fetch(work.token, args.token), fetch(work.log_probability, args.log_probability);
    fetch(work.top_token, args.top_token), fetch(work.top_log_probability, args.top_log_probability);
    EXPECT_EQ(download(logits, work.logits).bytes(), work.logits.bytes()) << "logits are not as they came";
  }
  static Sampling reference(Sampling work) {
    work.make_room();
    SampleRowsArgs args;
    args.logits = work.logits.view();
    args.host_row = args.row = work.rows.data();
    args.adjustment = work.adjustments.data(), args.max_top = work.max_top;
    args.token = work.token.data(), args.log_probability = work.log_probability.data();
    args.top_token = work.top_token.data(), args.top_log_probability = work.top_log_probability.data();
    sample_rows_reference(args);
    return work;
  }
  /// Runs it and compares with the reference; returns the tokens.
  Tokens checked(Sampling& work, const std::string& what = "") {
    run(work);
    const Sampling expected = reference(work);
    EXPECT_EQ(work.token, expected.token) << what;
    EXPECT_EQ(work.top_token, expected.top_token) << what;
    expect_close(work.log_probability, expected.log_probability, what);
    expect_close(work.top_log_probability, expected.top_log_probability, what);
    return work.token;
  }

 private:
  template <class T>
  void fetch(std::vector<T>& to, const T* from) {
    download(to.data(), reinterpret_cast<const std::byte*>(from), to.size() * sizeof(T));
  }
  static void expect_close(const std::vector<float>& got, const std::vector<float>& expected, const std::string& what) {
    ASSERT_EQ(got.size(), expected.size());
    for (std::size_t i = 0; i < got.size(); ++i) EXPECT_NEAR(got[i], expected[i], 3e-5F) << what << " at " << i;
  }
};

}  // namespace flexgen::test

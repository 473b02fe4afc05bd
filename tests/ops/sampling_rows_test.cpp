// sample_rows against its reference and by hand.
#include <gtest/gtest.h>

#include <cmath>
#include <map>
#include <random>
#include <set>

#include "base/error.hpp"
#include "tests/ops/sampling_rows_case.hpp"

namespace flexgen::test {
namespace {

constexpr float kNaN = std::numeric_limits<float>::quiet_NaN();

using SampleRowsTest = OnSampledRows;

/// Parameters of every kind, alone and together.
SampleRow random_row(std::mt19937& random, std::int32_t vocab) {
  const auto pick = [&](auto... values) {
    const std::common_type_t<decltype(values)...> list[] = {values...};
    return list[random() % sizeof...(values)];
  };
  SampleRow row;
  row.temperature = pick(0.0F, 0.3F, 1.0F, 2.0F, 1e-6F);
  row.top_p = pick(1.0F, 0.95F, 0.5F, 1e-6F);
  row.min_p = pick(0.0F, 0.0F, 0.05F, 1.0F);
  row.repetition_penalty = pick(1.0F, 1.3F, 0.7F);
  row.presence_penalty = pick(0.0F, 0.5F, -2.0F);
  row.frequency_penalty = pick(0.0F, 0.25F, -1.0F);
  row.top_k = pick(0, 1, 5, 300, vocab, vocab + 7);
  row.num_top = pick(0, 1, 5, 20);
  row.given_token = pick(-1, -1, -1, vocab / 2);
  row.seed = random() | std::uint64_t{random()} << 32;
  row.draw = random();
  return row;
}

TEST_P(SampleRowsTest, MatchesTheReference) {
  std::mt19937 random(5);
  for (const std::int32_t vocab : {1, 2, 17, 1000, 4099, 50272}) {
    const std::int64_t rows = vocab < 5000 ? 60 : 12;
    for (const float scale : {0.01F, 4.0F, 30.0F}) {
      Sampling work(HostMatrix::random(rows, vocab, DType::float32, random(), 3, scale));
      if (scale == 4.0F)  // many are equal
        for (std::int64_t r = 0; r < rows; ++r)
          for (std::int64_t c = 0; c < vocab; ++c) work.logits.set(r, c, std::round(work.logits.at(r, c)));
      work.max_top = 20;
      for (std::size_t r = 0; r < work.rows.size(); ++r) {
        work.rows[r] = random_row(random, vocab);
        std::map<std::int32_t, TokenAdjustment> adjustments;
        for (std::size_t i = 0; i < random() % 8; ++i) {
          const auto token = static_cast<std::int32_t>(random() % static_cast<std::uint32_t>(vocab));
          adjustments[token] = {token, static_cast<std::int32_t>(random() % 2), static_cast<std::int32_t>(random() % 4),
                                static_cast<float>(random() % 9) - 4.0F, 0.0F};
        }
        std::vector<TokenAdjustment> list;
        for (const auto& [token, one] : adjustments) list.push_back(one);
        if (r % 7 == 3 && list.size() > 1) list[1].bias = -kInfinity;
        work.adjust(r, list);
      }
      checked(work, std::to_string(vocab) + " tokens, +-" + std::to_string(scale));
    }
  }
}

TEST_P(SampleRowsTest, ARowAloneIsTheRowAmongOthers) {
  std::mt19937 random(8);
  Sampling all(HostMatrix::random(9, 5000, DType::float32, 3, 0, 6.0F));
  all.max_top = 20;
  for (std::size_t r = 0; r < all.rows.size(); ++r) {
    all.rows[r] = random_row(random, 5000);
    all.adjust(r, {{static_cast<std::int32_t>(r), 1, 2, 0.5F, 0}, ban(static_cast<std::int32_t>(40 + r))});
  }
  run(all);
  for (std::size_t r = 0; r < all.rows.size(); ++r) {
    HostMatrix own(1, 5000, DType::float32);
    for (std::int64_t c = 0; c < 5000; ++c) own.set(0, c, all.logits.at(static_cast<std::int64_t>(r), c));
    Sampling alone(own, all.rows[r]);
    alone.max_top = 20;
    alone.adjust(0, {all.adjustments[2 * r], all.adjustments[2 * r + 1]});
    run(alone);
    EXPECT_EQ(alone.token[0], all.token[r]);
    EXPECT_EQ(alone.log_probability[0], all.log_probability[r]);
    for (std::size_t i = 0; i < 20; ++i) {
      EXPECT_EQ(alone.top_token[i], all.top_token[20 * r + i]);
      EXPECT_EQ(alone.top_log_probability[i], all.top_log_probability[20 * r + i]);
    }
  }
}

TEST_P(SampleRowsTest, GreedyRowsAreTheArgmaxOfWhatAdjustmentsLeave) {
  SampleRow greedy;
  greedy.repetition_penalty = 2.0F, greedy.presence_penalty = 1.0F, greedy.frequency_penalty = 0.5F;
  greedy.top_k = 3, greedy.top_p = 0.1F, greedy.min_p = 0.5F;
  Sampling work(same_rows(8, {1.0F, 4.0F, 3.0F, 3.0F, -1.0F}), greedy);
  work.adjust(1, {{1, 1, 0, 0.0F, 0}});                              // 4 / 2
  work.adjust(2, {{1, 0, 1, 0.0F, 0}, {2, 1, 0, 0.0F, 0}, ban(3)});  // 0.5, 1.5
  work.adjust(3, {ban(1), ban(2)});
  work.adjust(4, {bias(4, 100.0F)});
  work.adjust(5, {bias(1, -100.0F)});
  work.adjust(6, {ban(0), ban(1), ban(2), ban(3)});
  work.adjust(7, {ban(0), ban(1), ban(2), ban(3), ban(4)});  // as argmax_rows of minus infinities
  EXPECT_EQ(checked(work), (Tokens{1, 2, 2, 3, 4, 2, 4, 0}));
}

TEST_P(SampleRowsTest, LimitsThatLeaveOneTokenLeaveTheLikeliest) {
  Sampling work(same_rows(7, {1.0F, 2.0F, 2.0F, 0.0F}), at_temperature(2.0F, 99));
  for (std::size_t r = 0; r < work.rows.size(); ++r) work.rows[r].draw = r;
  work.rows[0].top_k = 1;
  work.rows[1].top_p = 1e-9F;
  work.rows[2].top_k = 2, work.rows[2].top_p = 0.5F;  // of two equal ones the first is half
  work.rows[3].temperature = 1e-30F, work.adjust(3, {bias(1, -1e-3F)});
  work.adjust(4, {ban(0), ban(1), ban(2)});
  work.adjust(5, {bias(0, 100.0F)});
  work.rows[6].min_p = 1.0F, work.adjust(6, {ban(2)});
  EXPECT_EQ(checked(work), (Tokens{1, 1, 1, 2, 3, 0, 1}));
}

TEST_P(SampleRowsTest, EqualLogitsAreCutByTheirIds) {
  constexpr std::int64_t kRows = 400;
  const std::vector<float> equal(1000, -0.0F);
  SampleRow row = at_temperature(1.0F, 5);
  row.top_k = 3;
  Sampling by_count(same_rows(kRows, equal), row);
  row.top_k = 0, row.top_p = 0.0035F;  // three are too few
  Sampling by_part(same_rows(kRows, equal), row);
  for (Sampling* work : {&by_count, &by_part}) {
    for (std::size_t r = 0; r < kRows; ++r) work->rows[r].draw = r;
    const Tokens tokens = checked(*work);
    const std::set<std::int32_t> seen(tokens.begin(), tokens.end());
    EXPECT_EQ(seen, work == &by_count ? (std::set{0, 1, 2}) : (std::set{0, 1, 2, 3}));
  }
}

TEST_P(SampleRowsTest, ARowThatIsNoNumberGivesMinusOne) {
  for (const float temperature : {0.0F, 1.0F})
    for (const float broken : {kNaN, kInfinity})
      for (const std::int32_t at : {0, 15, 50, 98}) {
        SampleRow row = at_temperature(temperature);
        row.num_top = 3;
        Sampling work(HostMatrix::random(4, 99, DType::float32, 5), row);
        work.logits.set(1, at, broken);
        work.logits.set(2, at, broken), work.adjust(2, {ban(at)});  // a ban does not hide it
        work.logits.set(3, at, broken), work.rows[3].given_token = 4;
        const Tokens token = checked(work);
        EXPECT_GE(token[0], 0);
        EXPECT_EQ(token[1], -1) << at;
        EXPECT_EQ(token[2], -1) << at;
        EXPECT_EQ(token[3], -1) << at;
        EXPECT_EQ(work.top_token[3], -1);
        EXPECT_EQ(work.log_probability[1], 0.0F);
      }
}

TEST_P(SampleRowsTest, LogProbabilitiesAreTheModelsOwn) {
  SampleRow row = at_temperature(0.7F, 3);
  row.num_top = 5, row.top_k = 2, row.presence_penalty = 2.0F;
  Sampling work(HostMatrix::random(6, 50272, DType::float32, 7, 1, 8.0F), row);
  work.logits.set(4, 17, 30.0F), work.logits.set(4, 16, 30.0F), work.logits.set(4, 50271, 30.0F);  // equals
  for (std::size_t r = 0; r < work.rows.size(); ++r) work.adjust(r, {{17, 0, 1, 5.0F, 0}, bias(30, 100.0F)});
  work.rows[0].given_token = 50271;
  work.rows[1].given_token = 17;
  const Tokens token = checked(work);
  EXPECT_EQ(token[0], 50271);
  EXPECT_EQ(token[1], 17);
  EXPECT_EQ(token[2], 30);
  EXPECT_EQ((Tokens{work.top_token.begin() + 20, work.top_token.begin() + 23}), (Tokens{16, 17, 50271}));

  const auto expect_same = [&](const Tokens& tokens, const std::vector<float>& expected) {
    std::vector<float> score(tokens.size());
    float* on_device = upload(score);
    log_probabilities(context(), upload(work.logits), upload(tokens), on_device);
    download(score.data(), reinterpret_cast<const std::byte*>(on_device), score.size() * sizeof(float));
    EXPECT_EQ(score, expected);
  };
  expect_same(token, work.log_probability);
  Tokens likeliest;
  std::vector<float> likeliest_score;
  for (std::size_t r = 0; r < work.rows.size(); ++r) {
    likeliest.push_back(work.top_token[5 * r]);
    likeliest_score.push_back(work.top_log_probability[5 * r]);
  }
  expect_same(likeliest, likeliest_score);
}

TEST_P(SampleRowsTest, AlternativesEndWithTheVocabulary) {
  SampleRow row;
  row.num_top = 4;
  Sampling work(same_rows(2, {0.0F, 1.0F, 0.0F}), row);
  work.rows[1].num_top = 1;
  checked(work);
  EXPECT_EQ(work.top_token, (Tokens{1, 0, 2, -1, 1, -1, -1, -1}));
}

TEST_P(SampleRowsTest, WithoutLogProbabilitiesTokensAreTheSame) {
  Sampling work(HostMatrix::random(3, 1000, DType::float32, 5), at_temperature(1.0F));
  run(work);
  SampleRowsArgs args;
  args.logits = upload(work.logits);
  args.host_row = work.rows.data(), args.row = upload(work.rows);
  args.token = upload(Tokens(3, -77));
  sample_rows(context(), args);
  Tokens token(3);
  download(token.data(), reinterpret_cast<const std::byte*>(args.token), token.size() * sizeof(std::int32_t));
  EXPECT_EQ(token, work.token);
}

TEST_P(SampleRowsTest, WhatCannotBeIsAnInternalError) {
  const auto expect_refused = [&](void (*spoil)(Sampling&)) {
    Sampling work(HostMatrix::random(1, 10, DType::float32, 5), at_temperature(1.0F));
    spoil(work);
    EXPECT_THROW(run(work), InternalError);
  };
  expect_refused([](Sampling& work) { work.rows[0].temperature = -1.0F; });
  expect_refused([](Sampling& work) { work.rows[0].top_p = 0.0F; });
  expect_refused([](Sampling& work) { work.rows[0].min_p = kNaN; });
  expect_refused([](Sampling& work) { work.rows[0].repetition_penalty = 0.0F; });
  expect_refused([](Sampling& work) { work.rows[0].given_token = 10; });
  expect_refused([](Sampling& work) { work.rows[0].num_top = 1; });
}

FLEXGEN_ON_EVERY_DEVICE(SampleRowsTest);

}  // namespace
}  // namespace flexgen::test

// Outputs of a head that is made up: its logits tell which position they are of.
#include "engine/output_lane.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>

#include "tests/engine/lane_fixture.hpp"

namespace flexgen::test {
namespace {

constexpr std::int64_t max_prompt = 40;

Policy block_of(std::int32_t rows, std::int32_t num_micro_batches) {
  Policy policy;
  policy.micro_batch_size = rows;
  policy.num_micro_batches = num_micro_batches;
  return policy;
}

JobShape job_of(bool scores) {
  JobShape job;
  job.max_prompt_tokens = max_prompt;
  job.max_new_tokens = 1;
  job.max_row_tokens = max_prompt;
  job.num_rows = 4;
  job.scores = scores;
  return job;
}

// The logits of packed row p are 0, but for 1 at token (7 * p) mod vocab.
class MadeUpHead final : public Layer {
 public:
  MadeUpHead(std::int64_t vocab, std::uint64_t bytes_of_output)
      : Layer({LayerKind::head, -1, "head", {}}), vocab_(vocab), bytes_of_output_(bytes_of_output) {}

  void forward(const OpContext&, const LayerCall& call) const override {
    calls.push_back(call.num_outputs);
    ASSERT_EQ(call.logits.rows, call.num_outputs);
    for (std::int64_t r = 0; r < call.num_outputs; ++r) {
      auto* const logits = reinterpret_cast<float*>(call.logits.row(r));
      std::fill_n(logits, vocab_, 0.0F);
      logits[token_of(call.output_rows[r])] = 1;
    }
  }
  std::uint64_t workspace_bytes(const Device&, const BlockShape&, const CallSizes& sizes) const override {
    return static_cast<std::uint64_t>(sizes.rows) * bytes_of_output_;
  }
  std::int32_t token_of(std::int32_t packed_row) const { return static_cast<std::int32_t>(7 * packed_row % vocab_); }

  mutable std::vector<std::int32_t> calls;  // outputs of each

 private:
  std::int64_t vocab_;
  std::uint64_t bytes_of_output_;
};

struct Delivered {
  std::vector<SampledTokens> tokens;
  std::vector<std::vector<float>> logits;
};

OutputSinks sinks_of(Delivered& delivered, bool keep_logits) {
  OutputSinks sinks;
  sinks.tokens = [&](SampledTokens tokens) { delivered.tokens.push_back(std::move(tokens)); };
  if (keep_logits)
    sinks.logits = [&](std::int64_t, MicroBatchId, std::span<const float> logits) {
      delivered.logits.emplace_back(logits.begin(), logits.end());
    };
  return sinks;
}

SweepWork work_of(bool scores) {
  SweepWork work;
  work.number = 9;
  for (std::int32_t k = 0; k < 2; ++k) {
    MicroBatchWork& batch = work.micro_batches.emplace_back();
    for (std::int32_t r = 0; r < 2; ++r) {
      RowWork& row = batch.rows.emplace_back(RowWork{.row = RowId(2 * k + r), .cache_row = r, .wants_scores = scores});
      for (std::int32_t t = 0; t < 10 + 10 * r + k; ++t) row.tokens.push_back((31 * t + r + k) % 100);
    }
  }
  return work;
}

// Computes and delivers both micro-batches with a head of which `most` outputs fit the workspace.
Delivered outputs_of(const JobShape& job, const SweepWork& work, bool keep_logits, std::uint64_t most,
                     std::vector<std::int32_t>* calls = nullptr) {
  LaneParts parts(block_of(2, 2), job);
  auto made_up = std::make_unique<MadeUpHead>(parts.model.vocab, parts.memory->workspace.size_bytes() / most);
  const MadeUpHead& head = *made_up;
  parts.layers.back() = std::move(made_up);
  Delivered delivered;
  OutputLane lane(parts.plan, parts.layers, *parts.memory, Device{}, sinks_of(delivered, keep_logits));
  EXPECT_EQ(lane.keeps_logits(), keep_logits);
  TransferStream out("out", Stream::Mode::inline_tasks, parts.around, {});
  lane.begin_sweep(work.number);
  const OpContext context{Device{}, nullptr, &parts.memory->workspace, Backend::native};
  const std::vector<MicroBatch>& batches = parts.prepare(work);
  for (std::int32_t k = 0; k < 2; ++k) {
    const MicroBatch& batch = batches[static_cast<std::size_t>(k)];
    for (const BatchChunk& chunk : batch.chunks)
      lane.compute(context, head, LayerCall{}, batch, chunk, MicroBatchId(k));
    lane.deliver(MicroBatchId(k), batch, out);
  }
  EXPECT_EQ(parts.memory->workspace.used_bytes(), 0U);
  if (calls) *calls = head.calls;
  return delivered;
}

Delivered outputs_of(bool scores, bool keep_logits, std::uint64_t most, std::vector<std::int32_t>* calls = nullptr) {
  return outputs_of(job_of(scores), work_of(scores), keep_logits, most, calls);
}

TEST(OutputLane, EveryRowsTokenIsThatOfItsLastPosition) {
  const Delivered delivered = outputs_of(false, false, 8);
  ASSERT_EQ(delivered.tokens.size(), 2U);
  const MadeUpHead head(tiny_model().vocab, 1);
  for (std::int32_t k = 0; k < 2; ++k) {
    const SampledTokens& sampled = delivered.tokens[static_cast<std::size_t>(k)];
    EXPECT_EQ(sampled.sweep, 9);
    EXPECT_EQ(sampled.micro_batch, k);
    EXPECT_EQ(sampled.tokens, (std::vector{head.token_of(9 + k), head.token_of(29 + 2 * k)}));
    EXPECT_TRUE(sampled.scores.empty());
  }
}

TEST(OutputLane, LogitsTakeTheRoomThatThereIs) {
  std::vector<std::int32_t> calls;
  const Delivered at_once = outputs_of(true, false, 512, &calls);
  EXPECT_EQ(calls, (std::vector<std::int32_t>{30, 32}));
  const Delivered in_ranges = outputs_of(true, false, 12, &calls);
  EXPECT_EQ(calls, (std::vector<std::int32_t>{12, 12, 6, 12, 12, 8}));
  ASSERT_EQ(at_once.tokens.size(), 2U);
  ASSERT_EQ(in_ranges.tokens.size(), 2U);
  for (std::size_t k = 0; k < 2; ++k) {
    EXPECT_EQ(at_once.tokens[k].tokens.size(), 30 + 2 * k);
    EXPECT_EQ(in_ranges.tokens[k].tokens, at_once.tokens[k].tokens);
    EXPECT_EQ(in_ranges.tokens[k].scores, at_once.tokens[k].scores);
  }
}

// A target's logit is 1 where the made-up head chose it, 0 elsewhere.
TEST(OutputLane, ScoresAreOfTheTokensThatFollow) {
  const SweepWork work = work_of(true);
  const MadeUpHead head(tiny_model().vocab, 1);
  const float sum = static_cast<float>(tiny_model().vocab - 1) + std::exp(1.0F);
  const Delivered delivered = outputs_of(true, false, 12);
  for (std::size_t k = 0; k < 2; ++k) {
    std::size_t output = 0;
    for (const RowWork& row : work.micro_batches[k].rows)
      for (std::int32_t t = 0; t < row.count(); ++t, ++output) {
        const float score = delivered.tokens[k].scores.at(output);
        if (t + 1 == row.count()) {
          EXPECT_EQ(score, 0.0F) << "nothing follows";
          continue;
        }
        const bool chosen =
            row.tokens[static_cast<std::size_t>(t) + 1] == head.token_of(static_cast<std::int32_t>(output));
        EXPECT_NEAR(score, (chosen ? 1.0F : 0.0F) - std::log(sum), 1e-5F) << "output " << output;
      }
  }
}

// Prompts scored with alternatives in one row of two, and a token that is drawn behind one of them.
TEST(OutputLane, AlternativesComeWithTheScoresInAnyRange) {
  JobShape job = job_of(true);
  job.sampling = {true, 3, 1};
  SweepWork work = work_of(true);
  for (MicroBatchWork& batch : work.micro_batches) {
    RowChoice& choice = batch.choices.emplace_back();
    choice.row = 1;
    choice.num_prompt_top = 2;
    choice.wants_score = true;
    choice.how.temperature = 1e-6F;
    choice.how.num_top = 3;
    choice.adjustments = {{.token = 5, .bias = 50}};
  }
  const MadeUpHead head(tiny_model().vocab, 1);
  const float sum = static_cast<float>(tiny_model().vocab - 1) + std::exp(1.0F);
  std::vector<SampledTokens> first;
  for (const std::uint64_t most : {512U, 7U}) {
    const std::vector<SampledTokens> tokens = outputs_of(job, work, false, most).tokens;
    ASSERT_EQ(tokens.size(), 2U);
    for (std::size_t k = 0; k < 2; ++k) {
      const SampledTokens& sampled = tokens[k];
      const std::size_t count = 30 + 2 * k;
      ASSERT_EQ(sampled.tokens.size(), count);
      EXPECT_EQ(sampled.max_top, 3);
      ASSERT_EQ(sampled.top_tokens.size(), 3 * count);
      EXPECT_EQ(sampled.tokens.back(), 5) << "drawn of changed logits";
      EXPECT_NEAR(sampled.scores.back(), -std::log(sum), 1e-5F) << "of those that came";
      const std::size_t of_first = 10 + k;
      for (std::size_t i = 0; i < count; ++i) {
        const std::int32_t num_top = i < of_first ? 0 : i + 1 == count ? 3 : 2;
        for (std::int32_t t = 0; t < 3; ++t)
          EXPECT_EQ(sampled.top_tokens[3 * i + static_cast<std::size_t>(t)] >= 0, t < num_top) << i << " " << t;
        if (num_top == 0) continue;
        EXPECT_EQ(sampled.top_tokens[3 * i], head.token_of(static_cast<std::int32_t>(i)));
        EXPECT_NEAR(sampled.top_scores[3 * i], 1 - std::log(sum), 1e-5F);
      }
    }
    if (first.empty()) first = tokens;
    for (std::size_t k = 0; k < 2; ++k) {
      EXPECT_EQ(tokens[k].tokens, first[k].tokens);
      EXPECT_EQ(tokens[k].scores, first[k].scores);
      EXPECT_EQ(tokens[k].top_tokens, first[k].top_tokens);
      EXPECT_EQ(tokens[k].top_scores, first[k].top_scores);
    }
  }
}

TEST(OutputLane, LogitsThatAreKeptAreThoseOfTheTokens) {
  const Delivered delivered = outputs_of(false, true, 1);
  ASSERT_EQ(delivered.logits.size(), 2U);
  const auto vocab = static_cast<std::ptrdiff_t>(tiny_model().vocab);
  for (std::size_t k = 0; k < 2; ++k) {
    const std::vector<float>& logits = delivered.logits[k];
    ASSERT_EQ(logits.size(), static_cast<std::size_t>(2 * vocab));
    for (std::ptrdiff_t r = 0; r < 2; ++r) {
      const auto begin = logits.begin() + r * vocab;
      EXPECT_EQ(std::max_element(begin, begin + vocab) - begin,
                delivered.tokens[k].tokens[static_cast<std::size_t>(r)]);
    }
  }
}

}  // namespace
}  // namespace flexgen::test

#include "engine/sweep_batches.hpp"

#include <gtest/gtest.h>

#include "base/error.hpp"
#include "policy/memory_plan.hpp"
#include "tests/support/planned_tiers.hpp"

namespace flexgen::test {
namespace {

RowWork row(std::int64_t id, std::int32_t cache_row, std::int32_t start, std::int32_t count, bool wants_token = true) {
  RowWork work{.row = RowId(id), .cache_row = cache_row, .start = start, .wants_token = wants_token};
  for (std::int32_t t = 0; t < count; ++t) work.tokens.push_back(static_cast<std::int32_t>(id) * 10000 + t);
  return work;
}

class SweepBatchesTest : public ::testing::Test {
 protected:
  SweepBatches make(std::int32_t num_micro_batches, std::int32_t rows, std::int64_t tokens, bool scores = false,
                    DecodeCalls decode_calls = DecodeCalls::shared, const SamplingShape& sampling = {},
                    std::int32_t num_prefixes = 0) {
    BlockShape block;
    block.num_micro_batches = num_micro_batches;
    block.micro_batch_size = rows;
    block.num_prefixes = num_prefixes;
    JobShape job;
    job.max_prompt_tokens = 1000;
    job.scores = scores;
    job.sampling = sampling;
    const auto entries = static_cast<std::uint64_t>(index_array_entries(block, tokens, job));
    MemoryPieces pieces;
    pieces.add(Piece::index_arrays, TierKind::gpu, {entries * sizeof(std::int32_t), num_index_sets, piece_alignment});
    tiers_ = std::make_unique<PlannedTiers>(pieces);
    return SweepBatches(tiers_->memory(), decode_calls);
  }
  Stream& stream() { return stream_; }

 private:
  std::unique_ptr<PlannedTiers> tiers_;
  Stream stream_{"test", Stream::Mode::inline_tasks, Device{}};
};

// What a layer sees in the chunks must be the rows of the work, packed, wherever they were cut.
void expect_packed(const MicroBatch& batch, const MicroBatchWork& work) {
  EXPECT_EQ(batch.slot, work.slot);
  EXPECT_EQ(batch.num_tokens, work.num_tokens());
  ASSERT_EQ(batch.rows.size(), work.rows.size());
  std::size_t r = 0;
  std::int32_t tokens = 0;
  std::vector<RowId> outputs;
  for (const BatchChunk& chunk : batch.chunks) {
    const BatchView& view = chunk.batch;
    EXPECT_EQ(chunk.first_row, static_cast<std::int32_t>(r));
    EXPECT_EQ(chunk.first_token, tokens);
    EXPECT_EQ(chunk.first_output, static_cast<std::int32_t>(outputs.size()));
    EXPECT_EQ(view.token_offset, view.host_token_offset);  // the host device has one copy
    EXPECT_EQ(view.start, view.host_start);
    std::int32_t longest_count = 0, longest = 0, at = 0, output = 0;
    for (std::int32_t i = 0; i < view.num_rows; ++i, ++r) {
      ASSERT_LT(r, work.rows.size());
      const RowWork& expected = work.rows[r];
      EXPECT_EQ(batch.rows[r].cache_row, expected.cache_row);
      EXPECT_EQ(batch.rows[r].begin, expected.cache_begin);
      EXPECT_EQ(batch.rows[r].start, expected.start);
      EXPECT_EQ(batch.rows[r].count, expected.count());
      EXPECT_EQ(view.host_start[i], expected.start);
      ASSERT_EQ(view.host_token_offset[i], at);
      for (std::int32_t t = 0; t < expected.count(); ++t) {
        ASSERT_EQ(chunk.token_ids[at + t], expected.tokens[static_cast<std::size_t>(t)]);
        ASSERT_EQ(chunk.positions[at + t], expected.start + t);
      }
      at += expected.count();
      longest_count = std::max(longest_count, expected.count());
      longest = std::max(longest, expected.length());
      for (std::int32_t t = 0; expected.wants_scores && t + 1 < expected.count(); ++t) {
        EXPECT_EQ(chunk.output_rows[output], at - expected.count() + t);
        EXPECT_EQ(chunk.targets[output++], expected.tokens[static_cast<std::size_t>(t) + 1]);
        outputs.push_back(expected.row);
      }
      if (!expected.wants_token && !expected.wants_scores) continue;
      if (chunk.targets) {
        EXPECT_EQ(chunk.targets[output], -1);
      }
      ASSERT_LT(output, chunk.num_outputs);
      EXPECT_EQ(chunk.output_rows[output++], at - 1);
      outputs.push_back(expected.row);
    }
    EXPECT_EQ(output, chunk.num_outputs);
    EXPECT_EQ(view.host_token_offset[view.num_rows], at);
    EXPECT_EQ(view.num_tokens, at);
    EXPECT_EQ(view.max_count, longest_count);
    EXPECT_EQ(view.max_length, longest);
    tokens += at;
  }
  EXPECT_EQ(r, work.rows.size());
  EXPECT_EQ(tokens, batch.num_tokens);
  EXPECT_EQ(batch.num_outputs, static_cast<std::int32_t>(outputs.size()));
}

TEST_F(SweepBatchesTest, PacksRaggedRowsOfAllKinds) {
  SweepBatches batches = make(2, 4, 40);
  SweepWork work;
  work.micro_batches = {{5, {row(1, 3, 0, 7), row(2, 0, 9, 1), row(3, 1, 4, 3, false), row(4, 2, 30, 1)}},
                        {6, {row(5, 1, 0, 1)}}};
  const std::vector<MicroBatch>& packed = batches.prepare(work, stream());
  ASSERT_EQ(packed.size(), 2U);
  for (std::size_t k = 0; k < 2; ++k) expect_packed(packed[k], work.micro_batches[k]);
  EXPECT_EQ(packed[0].chunks.size(), 1U);
  EXPECT_EQ(packed[0].num_outputs, 3);
}

TEST_F(SweepBatchesTest, ScoredRowsGiveAnOutputForEveryToken) {
  SweepBatches batches = make(1, 3, 40, true);
  SweepWork work;
  work.micro_batches = {{0, {row(1, 0, 0, 4), row(2, 1, 0, 5), row(3, 2, 0, 1, false)}}};
  work.micro_batches[0].rows[1].wants_scores = true;
  work.micro_batches[0].rows[2].wants_scores = true;
  const MicroBatch& batch = batches.prepare(work, stream()).front();
  expect_packed(batch, work.micro_batches[0]);
  EXPECT_TRUE(batch.has_scores);
  EXPECT_EQ(batch.num_outputs, 1 + 5 + 1);
}

TEST_F(SweepBatchesTest, CutsIntoChunksBetweenRows) {
  SweepBatches batches = make(1, 6, 6 * 5000);
  SweepWork work;
  // 3000 + 1096 fill a chunk to the last token; a row longer than a chunk has one to itself.
  work.micro_batches = {{0,
                         {row(1, 0, 0, 3000), row(2, 1, 0, 1096), row(3, 2, 0, 200), row(4, 3, 0, 5000, false),
                          row(5, 4, 17, 1), row(6, 5, 0, 4096)}}};
  const MicroBatch& batch = batches.prepare(work, stream()).front();
  expect_packed(batch, work.micro_batches[0]);
  std::vector<std::int32_t> sizes;
  for (const BatchChunk& chunk : batch.chunks) sizes.push_back(chunk.batch.num_tokens);
  EXPECT_EQ(sizes, (std::vector<std::int32_t>{4096, 200, 5000, 1, 4096}));
}

// Where the host attends, a call of those rows alone can be done in halves.
TEST_F(SweepBatchesTest, RowsOfOneTokenHaveACallOfTheirOwnWhereThatIsWanted) {
  SweepWork work;
  work.micro_batches = {{0, {row(1, 0, 0, 4), row(2, 1, 4, 2, false), row(3, 2, 7, 1), row(4, 3, 9, 1)}},
                        {1, {row(5, 0, 2, 1), row(6, 1, 3, 1)}},
                        {2, {row(7, 0, 0, 3)}}};
  const auto rows_of_chunks = [&](DecodeCalls decode_calls) {
    SweepBatches batches = make(3, 4, 16, false, decode_calls);
    std::vector<std::vector<std::int32_t>> rows;
    const std::vector<MicroBatch>& packed = batches.prepare(work, stream());
    for (std::size_t k = 0; k < packed.size(); ++k) {
      expect_packed(packed[k], work.micro_batches[k]);
      rows.emplace_back();
      for (const BatchChunk& chunk : packed[k].chunks) rows.back().push_back(chunk.batch.num_rows);
    }
    return rows;
  };
  EXPECT_EQ(rows_of_chunks(DecodeCalls::shared), (std::vector<std::vector<std::int32_t>>{{4}, {2}, {1}}));
  EXPECT_EQ(rows_of_chunks(DecodeCalls::own), (std::vector<std::vector<std::int32_t>>{{2, 2}, {2}, {1}}));
}

TEST_F(SweepBatchesTest, HoldsTheWorstCaseAndNoMore) {
  constexpr std::int32_t rows = 3, length = call_tokens;  // every row a chunk of its own, every row an output
  SweepBatches batches = make(2, rows, static_cast<std::int64_t>(rows) * length);
  SweepWork work;
  work.micro_batches.resize(2);
  for (MicroBatchWork& batch : work.micro_batches)
    for (std::int32_t r = 0; r < rows; ++r) batch.rows.push_back(row(r, r, 0, length));
  const std::vector<MicroBatch>& packed = batches.prepare(work, stream());
  for (std::size_t k = 0; k < 2; ++k) expect_packed(packed[k], work.micro_batches[k]);

  work.micro_batches[1].rows[0].tokens.push_back(1);
  EXPECT_THROW(batches.prepare(work, stream()), InternalError);
}

// Rows of two chunks: a prompt and one that decodes, then two that decode; a tree of two beginnings and a row by
// itself.
TEST_F(SweepBatchesTest, AChunkHasWhatItsRowsShare) {
  const SharedRun trunk{6, 256, 128}, branch{7, 512, 64};
  SweepWork work;
  work.micro_batches = {{0, {row(1, 0, 200, 4000), row(2, 1, 130, 1), row(3, 2, 150, 4000), row(4, 3, 9, 1)}}};
  std::vector<RowWork>& rows = work.micro_batches[0].rows;
  rows[0].shared = rows[2].shared = {trunk, branch};
  rows[2].start = 192 + 7;
  rows[1].shared = {trunk};
  SweepBatches batches = make(1, 4, 9000, false, DecodeCalls::shared, {}, 2);
  const std::vector<BatchChunk>& chunks = batches.prepare(work, stream())[0].chunks;
  ASSERT_EQ(chunks.size(), 2U);

  using Ints = std::vector<std::int32_t>;
  const auto ints = [](const std::int32_t* at, std::int64_t count) { return Ints(at, at + count); };
  const SharedSpans& first = chunks[0].shared;
  ASSERT_EQ(first.num_spans, 3) << "what a prompt has is listed for it alone";
  EXPECT_EQ(ints(first.host_own_begin, 2), (Ints{192, 128}));
  EXPECT_EQ(ints(first.own_start, 2), (Ints{8, 2}));
  EXPECT_EQ(ints(first.host_row_spans.first, 3), (Ints{0, 2, 3}));
  EXPECT_EQ(ints(first.host_row_spans.index, 3), (Ints{0, 1, 2}));
  EXPECT_EQ(first.host_spans[1].begin, 128);
  EXPECT_EQ(first.host_spans[2].first_row, 1);
  EXPECT_EQ(first.host_spans[2].run, first.host_spans[0].run);
  EXPECT_EQ(first.spans, first.host_spans) << "the host device has one copy";
  EXPECT_EQ(first.row_spans.index, first.host_row_spans.index);
  const SharedSpans& second = chunks[1].shared;
  ASSERT_EQ(second.num_spans, 2);
  EXPECT_EQ(ints(second.own_start, 2), (Ints{7, 9}));
  EXPECT_EQ(ints(second.host_row_spans.first, 3), (Ints{0, 2, 2}));
  EXPECT_EQ(ints(second.host_row_spans.index, 2), (Ints{0, 1}));
}

TEST_F(SweepBatchesTest, HoldsTheWorstOfWhatRowsShare) {
  constexpr std::int32_t rows = 3, length = call_tokens;  // every row a chunk of its own
  std::vector<SharedRun> runs;
  for (std::int32_t i = 0; i < 5; ++i) runs.push_back({rows + i, 64 * i, 64});
  SweepBatches batches = make(2, rows, static_cast<std::int64_t>(rows) * length, false, DecodeCalls::shared, {}, 5);
  SweepWork work;
  work.micro_batches.resize(2);
  for (MicroBatchWork& batch : work.micro_batches)
    for (std::int32_t r = 0; r < rows; ++r) batch.rows.emplace_back(row(r, r, 320, length)).shared = runs;
  EXPECT_EQ(batches.prepare(work, stream())[1].chunks[2].shared.num_spans, 5);

  work.micro_batches[1].rows[0].tokens.push_back(1);
  EXPECT_THROW(batches.prepare(work, stream()), InternalError) << "no more than that";
}

RowChoice choice(std::int32_t row, float temperature, std::int32_t num_adjustments) {
  RowChoice choice;
  choice.row = row;
  choice.how.temperature = temperature;
  for (std::int32_t a = 0; a < num_adjustments; ++a) choice.adjustments.push_back({.token = 100 * row + a});
  return choice;
}

// Rows over two chunks: scored and drawn, drawn, plain, scored in part, drawn with nothing that looks back.
TEST_F(SweepBatchesTest, EveryOutputOfAMicroBatchHasItsChoice) {
  SweepBatches batches = make(2, 5, 6000, true, DecodeCalls::shared, {true, 4, 3});
  SweepWork work;
  work.micro_batches = {
      {0,
       {row(1, 0, 0, 3), row(2, 1, 0, 4000), row(3, 2, 0, 200), row(4, 3, 0, 2, false), row(5, 4, 9, 1)},
       {choice(0, 0.5F, 2), choice(1, 0.6F, 3), choice(3, 0, 0), choice(4, 0.7F, 0)}},
      {1, {row(6, 0, 4, 1)}}};
  std::vector<RowWork>& rows = work.micro_batches[0].rows;
  rows[0].wants_scores = rows[3].wants_scores = true;
  rows[3].next_token = 77;
  work.micro_batches[0].choices[0].num_prompt_top = 4;
  work.micro_batches[0].choices[0].how.num_top = 2;
  work.micro_batches[0].choices[2].num_prompt_top = 1;
  const std::vector<MicroBatch>& packed = batches.prepare(work, stream());
  EXPECT_TRUE(packed[0].has_scores);
  EXPECT_EQ(packed[0].max_top, 4);
  EXPECT_EQ(packed[1].chunks.at(0).choices.how, nullptr) << "a micro-batch of plain rows has none";
  EXPECT_EQ(packed[1].max_top, 0);

  ASSERT_EQ(packed[0].chunks.size(), 2U);
  const OutputChoices& first = packed[0].chunks[0].choices;
  ASSERT_EQ(packed[0].chunks[0].num_outputs, 4);
  EXPECT_EQ(first.host_how, first.how) << "the host device has one of both";
  EXPECT_EQ(reinterpret_cast<std::uintptr_t>(first.how) % alignof(SampleRow), 0U);
  const std::vector<std::int32_t> given{first.how[0].given_token, first.how[1].given_token, first.how[2].given_token};
  EXPECT_EQ(given, (std::vector<std::int32_t>{10001, 10002, -1}));
  EXPECT_EQ(first.how[1].num_top, 4);
  EXPECT_EQ(first.how[2].num_top, 2);
  EXPECT_EQ(first.how[2].temperature, 0.5F);
  EXPECT_EQ(first.how[2].num_adjustments, 2);
  EXPECT_EQ(first.how[3].first_adjustment, 2);
  EXPECT_EQ(first.how[3].num_adjustments, 3);
  EXPECT_EQ(first.adjustments[4].token, 102);

  const OutputChoices& second = packed[0].chunks[1].choices;
  ASSERT_EQ(packed[0].chunks[1].num_outputs, 4);
  EXPECT_EQ(second.how[0], SampleRow{}) << "a plain row";
  EXPECT_EQ(second.how[1].given_token, 40001);
  EXPECT_EQ(second.how[2].given_token, 77) << "what the prompt has next";
  EXPECT_EQ(second.how[2].num_top, 1);
  EXPECT_EQ(second.how[3].temperature, 0.7F);
  EXPECT_EQ(second.how[3].num_adjustments, 0);
}

TEST_F(SweepBatchesTest, HoldsTheWorstCaseOfChoicesAndNoMore) {
  constexpr std::int32_t rows = 3, most = 5;
  for (const bool scores : {false, true}) {
    const std::int32_t length = scores ? call_tokens : 1;
    SweepBatches batches =
        make(2, rows, static_cast<std::int64_t>(rows) * length, scores, DecodeCalls::shared, {true, 2, most});
    SweepWork work;
    work.micro_batches.resize(2);
    for (MicroBatchWork& batch : work.micro_batches)
      for (std::int32_t r = 0; r < rows; ++r) {
        batch.rows.push_back(row(r, r, 0, length));
        batch.rows.back().wants_scores = scores;
        batch.choices.push_back(choice(r, 1, most));
      }
    EXPECT_NO_THROW(batches.prepare(work, stream()));
    for (int i = 0; i < 4; ++i) work.micro_batches[0].choices[0].adjustments.push_back({});
    EXPECT_THROW(batches.prepare(work, stream()), InternalError);
  }
}

TEST_F(SweepBatchesTest, KeepsTheArraysOfTheSweepBefore) {
  SweepBatches batches = make(1, 2, 8);
  SweepWork first, second;
  first.micro_batches = {{0, {row(1, 0, 0, 3), row(2, 1, 0, 4)}}};
  second.micro_batches = {{0, {row(3, 0, 3, 1), row(4, 1, 4, 1)}}};
  const MicroBatch before = batches.prepare(first, stream()).front();
  batches.mark_used(stream());
  const MicroBatch after = batches.prepare(second, stream()).front();
  batches.mark_used(stream());
  expect_packed(before, first.micro_batches[0]);
  expect_packed(after, second.micro_batches[0]);
}

}  // namespace
}  // namespace flexgen::test

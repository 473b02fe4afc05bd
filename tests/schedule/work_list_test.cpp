#include "schedule/work_list.hpp"

#include <gtest/gtest.h>

#include <cstring>
#include <random>

#include "base/error.hpp"

namespace flexgen::test {
namespace {

SweepWork random_work(std::mt19937& random) {
  const auto below = [&](std::int64_t limit) {
    return std::uniform_int_distribution<std::int64_t>(0, limit - 1)(random);
  };
  SweepWork work;
  work.number = below(1LL << 60);
  work.group = GroupId(static_cast<std::int32_t>(below(100)));
  work.more_follow = below(2) != 0;
  work.micro_batches.resize(static_cast<std::size_t>(below(5)));
  for (MicroBatchWork& batch : work.micro_batches) {
    batch.slot = static_cast<std::int32_t>(below(1000));
    batch.rows.resize(static_cast<std::size_t>(below(6)));
    for (RowWork& row : batch.rows) {
      row.row = RowId(below(1LL << 50));
      row.cache_row = static_cast<std::int32_t>(below(64));
      row.cache_begin = static_cast<std::int32_t>(below(4096));
      row.start = static_cast<std::int32_t>(below(2048));
      row.wants_token = below(2) != 0;
      row.wants_scores = below(2) != 0;
      row.next_token = static_cast<std::int32_t>(below(50272)) - 1;
      row.reads_prompt = below(2) != 0;
      row.tokens.resize(static_cast<std::size_t>(below(10)));
      for (std::int32_t& token : row.tokens) token = static_cast<std::int32_t>(below(50272));
      row.shared.resize(static_cast<std::size_t>(below(4)));
      for (SharedRun& run : row.shared)
        run = {static_cast<std::int32_t>(below(80)), static_cast<std::int32_t>(below(4096)),
               static_cast<std::int32_t>(below(2048))};
    }
    for (std::int32_t r = 0; r < std::ssize(batch.rows); ++r) {
      if (below(2) == 0) continue;
      RowChoice& choice = batch.choices.emplace_back();
      choice.row = r;
      choice.num_prompt_top = static_cast<std::int32_t>(below(20));
      choice.wants_score = below(2) != 0;
      choice.how.temperature = static_cast<float>(below(2000)) / 1000;
      choice.how.top_k = static_cast<std::int32_t>(below(100));
      choice.how.draw = static_cast<std::uint64_t>(below(1LL << 60));
      for (std::int64_t i = below(4); i > 0; --i)
        choice.adjustments.push_back({.token = static_cast<std::int32_t>(below(50272)),
                                      .in_output = static_cast<std::int32_t>(below(5)),
                                      .bias = static_cast<float>(below(9))});
    }
  }
  return work;
}

TEST(WorkList, RoundTrip) {
  std::mt19937 random(1);
  for (int i = 0; i < 500; ++i) {
    const SweepWork work = random_work(random);
    EXPECT_EQ(decode_work(encode_work(work)), work);
  }
}

// Those that share lie together, and in the order of what they share.
TEST(WorkList, RowsThatShareLieTogether) {
  const SharedRun trunk{8, 256, 128}, half{8, 256, 64}, branch{9, 512, 64};
  const std::vector<RowWork> ordered{{.cache_begin = 0},
                                     {.cache_begin = 700, .shared = {half}},
                                     {.cache_begin = 96, .shared = {trunk}},
                                     {.cache_begin = 40, .shared = {trunk, branch}},
                                     {.cache_begin = 640, .shared = {trunk, branch}},
                                     {.cache_begin = 600, .shared = {trunk}},
                                     {.cache_begin = 384}};
  for (std::size_t i = 0; i < ordered.size(); ++i)
    for (std::size_t j = 0; j < ordered.size(); ++j)
      EXPECT_EQ(lies_before(ordered[i], ordered[j]), i < j) << i << " " << j;
  EXPECT_EQ(ordered[3].own_begin(), 192);
}

TEST(WorkList, LargePrompt) {
  SweepWork work;
  work.micro_batches.resize(1);
  work.micro_batches[0].rows.resize(1);
  for (std::int32_t t = 0; t < 100'000; ++t) work.micro_batches[0].rows[0].tokens.push_back(t);
  EXPECT_EQ(decode_work(encode_work(work)), work);
}

TEST(WorkList, EveryTruncationAndEveryExcessThrows) {
  std::mt19937 random(2);
  for (int i = 0; i < 40; ++i) {
    std::vector<std::byte> message = encode_work(random_work(random));
    for (std::size_t length = 0; length < message.size(); ++length)
      EXPECT_THROW(decode_work(std::span(message).first(length)), Error) << length << " of " << message.size();
    message.push_back(std::byte{0});
    EXPECT_THROW(decode_work(message), Error);
  }
}

TEST(WorkList, DamagedMessagesThrowOrDecodeButNeverCrash) {
  std::mt19937 random(3);
  int refused = 0;
  for (int i = 0; i < 3000; ++i) {
    std::vector<std::byte> message = encode_work(random_work(random));
    for (int damage = 0; damage < 3; ++damage) message[random() % message.size()] = static_cast<std::byte>(random());
    try {
      decode_work(message);
    } catch (const Error&) {
      ++refused;
    }
  }
  EXPECT_GT(refused, 100);
}

TEST(WorkList, HugeCountsAreRefusedBeforeAnythingIsAllocated) {
  SweepWork work;
  work.micro_batches.resize(1);
  work.micro_batches[0].rows.resize(1);
  work.micro_batches[0].rows[0].tokens = {1};
  const std::vector<std::byte> message = encode_work(work);
  for (const std::int64_t count :
       {std::int64_t{-1}, std::int64_t{1} << 40, std::int64_t{1} << 62, INT64_MIN, INT64_MAX})
    for (std::size_t at = 0; at + sizeof count <= message.size(); at += sizeof count) {
      std::vector<std::byte> damaged = message;
      std::memcpy(damaged.data() + at, &count, sizeof count);
      try {
        decode_work(damaged);  // fields that are no counts may hold anything
      } catch (const Error&) {
      }
    }
}

TEST(WorkList, CountsTokens) {
  MicroBatchWork batch;
  EXPECT_EQ(batch.num_tokens(), 0);
  batch.rows = {{.start = 5, .tokens = {1, 2, 3}}, {.tokens = {4}}};
  EXPECT_EQ(batch.num_tokens(), 4);
  EXPECT_EQ(batch.rows[0].length(), 8);
  EXPECT_EQ(batch.rows[1].count(), 1);
}

// A sweep is no prefill and no decode: its rows are.
TEST(WorkList, CountsTokensOfPromptsApartFromThoseThatWereMade) {
  SweepWork work;
  EXPECT_EQ(work.num_prompt_tokens(), 0);
  EXPECT_EQ(work.num_decode_tokens(), 0);
  work.micro_batches = {{0, {{.tokens = {1, 2, 3}, .reads_prompt = true}, {.tokens = {4}}}},
                        {1, {{.start = 3, .tokens = {5, 6}, .reads_prompt = true}, {.start = 7, .tokens = {7}}}}};
  EXPECT_EQ(work.num_prompt_tokens(), 5);
  EXPECT_EQ(work.num_decode_tokens(), 2);
}

}  // namespace
}  // namespace flexgen::test

#include "ops/cache_span.hpp"

#include <gtest/gtest.h>

#include <vector>

namespace flexgen::test {
namespace {

TEST(CacheSpan, TokensOfARow) {
  const std::int32_t token_offset[] = {0, 1, 4, 4}, start[] = {7, 2, 5};
  const RowTokens decode = row_tokens(token_offset, start, 0), chunk = row_tokens(token_offset, start, 1);
  const RowTokens none = row_tokens(token_offset, start, 2);
  EXPECT_TRUE(decode.is_decode() && !decode.is_prefill());
  EXPECT_EQ(decode.position_of(0), 7);
  EXPECT_EQ(decode.num_positions(), 8);
  EXPECT_TRUE(chunk.is_prefill() && !chunk.is_decode());
  EXPECT_EQ(chunk.position_of(3), 4);
  EXPECT_EQ(chunk.num_positions(), 5);
  EXPECT_TRUE(!none.is_prefill() && !none.is_decode());
  EXPECT_EQ(none.num_positions(), 5);
}

TEST(CacheSpan, ATokenSeesItselfAndAllBefore) {
  EXPECT_EQ(visible_range(0).length(), 1);
  EXPECT_EQ(visible_range(9).first, 0);
  EXPECT_EQ(visible_range(9).end, 10);
  EXPECT_EQ(visible_range(4, 9).end, visible_range(9).end);
  EXPECT_EQ(visible_range(4, 9).first, visible_range(4).first);
}

TEST(CacheSpan, ChosenPositionsAreRoundedDown) {
  EXPECT_EQ(num_chosen_positions(0.1F, visible_range(0)), 0);
  EXPECT_EQ(num_chosen_positions(0.1F, visible_range(99)), 9);
  EXPECT_EQ(num_chosen_positions(0.5F, visible_range(99)), 49);
}

TEST(CacheSpan, PlainStridesCountElements) {
  std::vector<std::byte> memory(4096);
  std::vector<KvHead> heads(6);
  heads[5] = {memory.data() + 32, 40, 16, 0, 0};
  const RowTokens tokens{0, 1, 9};
  const CacheSpan span = span_of_query_head(heads.data(), 3, 1, 2, tokens);
  EXPECT_EQ(span.num_positions, 10);
  const std::int64_t unit = cache_unit_bytes({}, DType::float16);
  EXPECT_EQ(span.at(CachePart::keys, 3, unit) - memory.data(), 32 + 3 * 40 * 2);
  EXPECT_EQ(span.at(CachePart::values, 3, unit) - memory.data(), 32 + (3 * 40 + 16) * 2);
}

TEST(CacheSpan, CompressedStridesCountBytes) {
  std::vector<std::byte> memory(4096);
  const KvHead head{memory.data(), 100, 32, 64, 80};
  const RowTokens tokens{0, 1, 9};
  const CacheSpan span = span_of_kv_head(&head, 1, 0, 0, tokens);
  const std::int64_t unit = cache_unit_bytes({4, 64}, DType::float32);
  EXPECT_EQ(unit, 1);
  EXPECT_EQ(span.at(CachePart::values, 2, unit) - memory.data(), 232);
  EXPECT_EQ(span.parameters(CachePart::keys, 2) - memory.data(), 264);
  EXPECT_EQ(span.parameters(CachePart::values, 2) - memory.data(), 280);
}

}  // namespace
}  // namespace flexgen::test

#include "job/result_logprobs.hpp"

#include <gtest/gtest.h>

#include <limits>

namespace flexgen::test {
namespace {

Result scored(bool batch_format, std::vector<ChoiceToken> tokens) {
  Result result;
  result.custom_id = "q1";
  result.batch_format = batch_format;
  result.choices = {{0, " A", "stop", {5}, {2}, std::move(tokens)}};
  return result;
}

const std::vector<ChoiceToken> echoed = {
    {"It", {}, {}}, {" A", -0.1F, {{" A", -0.1F}, {"\xE2\x80", -2.5F}}}, {"</s>", -3.25F, {{" A", -0.5F}}}};

TEST(ResultLogprobs, Golden) {
  const std::string expected =
      R"("logprobs":{"tokens":["It"," A","</s>"],"token_logprobs":[null,-0.1,-3.25],"top_logprobs":[null,)"
      R"({" A":-0.1,"bytes:\\xe2\\x80":-2.5},{" A":-0.5,"</s>":-3.25}],"text_offset":[0,2,4]})";
  for (const bool batch_format : {false, true}) {
    const std::string line = format_result(scored(batch_format, echoed), {});
    EXPECT_NE(line.find(R"("finish_reason":"stop",)" + expected), line.npos) << line;
  }
}

TEST(ResultLogprobs, AskedForIsNeverNull) {
  const auto json = nlohmann::json::parse(format_result(scored(true, {}), {}));
  const auto& logprobs = json["response"]["body"]["choices"][0]["logprobs"];
  for (const char* list : {"tokens", "token_logprobs", "top_logprobs", "text_offset"})
    EXPECT_EQ(logprobs[list], nlohmann::json::array()) << list;
}

// Evaluation clients compare a token's number with those of top_logprobs for equality.
TEST(ResultLogprobs, ANumberReadsTheSameInBothPlaces) {
  for (int i = 1; i < 2000; ++i) {
    const float value = -0.00317F * static_cast<float>(i) * static_cast<float>(i % 7 + 1);
    const auto json = logprobs_json({{"a", value, {{"a", value}, {"b", value - 1}}}});
    EXPECT_EQ(json["token_logprobs"][0].dump(), json["top_logprobs"][0]["a"].dump());
    EXPECT_NEAR(json["token_logprobs"][0].get<double>(), static_cast<double>(value), 6e-8);
  }
}

TEST(ResultLogprobs, TheTokenItselfIsAlwaysAmongTheTop) {
  EXPECT_EQ(logprobs_json({{"a", -1.0F, {}}})["top_logprobs"][0].dump(), R"({"a":-1.0})");
  EXPECT_EQ(logprobs_json({{"a", -5.0F, {{"b", -1.0F}, {"c", -2.0F}}}})["top_logprobs"][0].size(), 3U);
  EXPECT_EQ(logprobs_json({{"b", -1.0F, {{"b", -1.0F}, {"c", -2.0F}}}})["top_logprobs"][0].size(), 2U);
  // Tokens that read alike: the likelier one's number.
  EXPECT_EQ(logprobs_json({{"a", -5.0F, {{"a", -1.0F}}}})["top_logprobs"][0].dump(), R"({"a":-1.0})");
}

TEST(ResultLogprobs, NumbersAreJson) {
  const float infinity = std::numeric_limits<float>::infinity();
  const auto json = logprobs_json({{"a", -0.0F, {{"b", -infinity}}}, {"c", -infinity, {}}});
  EXPECT_EQ(json["token_logprobs"].dump(), "[0.0,-9999.0]");
  EXPECT_EQ(json["top_logprobs"][0].dump(), R"({"b":-9999.0,"a":0.0})");
}

TEST(ResultLogprobs, BytesThatAreNoTextAreSpeltOut) {
  for (const char* text :
       {"", " A", "\xC3\xA9", "\xE2\x82\xAC", "\xF0\x9F\x98\x80", "\xED\x9F\xBF", "\xF4\x8F\xBF\xBF"})
    EXPECT_EQ(token_text(text), text);
  EXPECT_EQ(token_text("a\xE2\x80"), "bytes:\\x61\\xe2\\x80");
  for (const char* bytes : {"\x80", "\xC0\x80", "\xC3", "\xE0\x9F\xBF", "\xED\xA0\x80", "\xF0\x8F\xBF\xBF",
                            "\xF4\x90\x80\x80", "\xF5\x80\x80\x80", "\xFF", "\xC3(", "\xE2\x82(", "ok\xE2"})
    EXPECT_EQ(token_text(bytes).substr(0, 8), "bytes:\\x") << token_text(bytes);
}

TEST(ResultLogprobs, OffsetsCountCharacters) {
  // A character that two tokens share begins with the first.
  const auto json =
      logprobs_json({{"\xE2\x82\xAC!", -1.0F, {}}, {"\xF0\x9F", -1.0F, {}}, {"\x98\x80", -1.0F, {}}, {"b", -1.0F, {}}});
  EXPECT_EQ(json["text_offset"].dump(), "[0,2,3,3]");
}

}  // namespace
}  // namespace flexgen::test

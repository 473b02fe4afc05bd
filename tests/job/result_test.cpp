#include "job/result.hpp"

#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "base/error.hpp"

namespace flexgen::test {
namespace {

Result one_choice(bool batch_format) {
  Result result;
  result.custom_id = "q1";
  result.batch_format = batch_format;
  result.choices = {{0, " Paris", "stop", {5, 2}, {2, 100, 7}}};
  result.usage = {3, 2};
  return result;
}

const ResultFormat without_ids{false, "facebook/opt-125m", 1700000000};
const ResultFormat with_ids{true, "facebook/opt-125m", 1700000000};

TEST(Result, GoldenBatchLine) {
  EXPECT_EQ(format_result(one_choice(true), without_ids),
            R"({"id":"batch_req_08d21307b572d497","custom_id":"q1","response":{"status_code":200,)"
            R"("request_id":"req_08d21307b572d497","body":{"id":"cmpl-08d21307b572d497","object":"text_completion",)"
            R"("created":1700000000,"model":"facebook/opt-125m","choices":[{"index":0,"text":" Paris",)"
            R"("finish_reason":"stop","logprobs":null}],"usage":{"prompt_tokens":3,"completion_tokens":2,)"
            R"("total_tokens":5}}},"error":null})");
}

TEST(Result, GoldenPlainLines) {
  EXPECT_EQ(format_result(one_choice(false), without_ids),
            R"({"custom_id":"q1","text":" Paris","finish_reason":"stop",)"
            R"("usage":{"prompt_tokens":3,"completion_tokens":2,"total_tokens":5}})");
  EXPECT_EQ(format_result(one_choice(false), with_ids),
            R"({"custom_id":"q1","text":" Paris","finish_reason":"stop","token_ids":[5,2],)"
            R"("prompt_token_ids":[2,100,7],"usage":{"prompt_tokens":3,"completion_tokens":2,"total_tokens":5}})");
}

TEST(Result, GoldenScores) {
  ScoreResult result;
  result.custom_id = "q1";
  result.texts = {{{2, 100, 7}, {-0.5F, -1.5F}}};
  const std::string first = R"({"custom_id":"q1","token_logprobs":[null,-0.5,-1.5],"sum":-2.0,"count":2,"perplexity":)";
  EXPECT_EQ(format_scores(result, false).substr(0, first.size()), first);
  EXPECT_EQ(nlohmann::json::parse(format_scores(result, true))["token_ids"], nlohmann::json({2, 100, 7}));
  result.texts = {{{2}, {}}};
  EXPECT_EQ(format_scores(result, false),
            R"({"custom_id":"q1","token_logprobs":[null],"sum":0.0,"count":0,"perplexity":null})");
  result.prompt_is_list = true;
  EXPECT_EQ(format_scores(result, true),
            R"({"custom_id":"q1","choices":[{"index":0,"token_ids":[2],"token_logprobs":[null],"sum":0.0,"count":0,)"
            R"("perplexity":null}]})");
}

TEST(Result, PlainListHasChoices) {
  Result result = one_choice(false);
  result.prompt_is_list = true;
  result.choices.push_back({1, "x", "length", {9}, {2}});
  result.usage = {4, 3};
  EXPECT_EQ(format_result(result, with_ids),
            R"({"custom_id":"q1","choices":[{"index":0,"text":" Paris","finish_reason":"stop","token_ids":[5,2],)"
            R"("prompt_token_ids":[2,100,7]},{"index":1,"text":"x","finish_reason":"length","token_ids":[9],)"
            R"("prompt_token_ids":[2]}],"usage":{"prompt_tokens":4,"completion_tokens":3,"total_tokens":7}})");
}

TEST(Result, BatchChoicesHoldTheirIdsWhenAsked) {
  const auto json = nlohmann::json::parse(format_result(one_choice(true), with_ids));
  const auto& choice = json["response"]["body"]["choices"][0];
  EXPECT_EQ(choice["token_ids"], (std::vector<int>{5, 2}));
  EXPECT_EQ(choice["prompt_token_ids"], (std::vector<int>{2, 100, 7}));
}

TEST(Result, ErrorLines) {
  RowError error;
  error.custom_id = "q1";
  error.code = "invalid_field";
  error.message = "no \"prompt\"";
  EXPECT_EQ(format_error(error), R"({"custom_id":"q1","error":{"code":"invalid_field","message":"no \"prompt\""}})");
  error.batch_format = true;
  EXPECT_EQ(format_error(error), R"({"id":"batch_req_08d21307b572d497","custom_id":"q1","response":null,)"
                                 R"("error":{"code":"invalid_field","message":"no \"prompt\""}})");
}

TEST(Result, TextIsAlwaysOneLineOfValidJson) {
  Result result = one_choice(false);
  result.choices[0].text = "cut \xE2\x82 end\n\r\t\x01 \xE2\x80\xA8 \xE2\x80\xA9 \xC2\x85 \xF0\x9F\x98\x80";
  result.custom_id = std::string("a\0\"\\", 4);
  const std::string line = format_result(result, without_ids);
  for (const std::string_view end : {"\n", "\r", "\xE2\x80\xA8", "\xE2\x80\xA9", "\xC2\x85"})
    EXPECT_EQ(line.find(end), std::string::npos) << line;
  const auto json = nlohmann::json::parse(line);
  EXPECT_EQ(json["text"], "cut \xEF\xBF\xBD end\n\r\t\x01 \xE2\x80\xA8 \xE2\x80\xA9 \xC2\x85 \xF0\x9F\x98\x80");
  EXPECT_EQ(json["custom_id"].get<std::string>(), result.custom_id);
}

TEST(Result, BelongsToItsRequest) {
  const auto request = std::get<Request>(parse_request(R"({"prompt":["a","b"],"custom_id":"z"})", 3, {}));
  const Result result = result_for(request);
  EXPECT_EQ(result.custom_id, "z");
  EXPECT_EQ(result.line_number, 3u);
  EXPECT_FALSE(result.batch_format);
  EXPECT_TRUE(result.prompt_is_list);
  EXPECT_THROW(format_result(result, without_ids), InternalError);  // no choices yet
}

}  // namespace
}  // namespace flexgen::test

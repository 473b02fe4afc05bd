#include "job/request.hpp"

#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "fmt/format.h"
#include "job/result.hpp"

namespace flexgen::test {
namespace {

using Ids = std::vector<std::int32_t>;

ParsedRow parse(std::string_view line) { return parse_request(line, 7, RequestDefaults{32}); }

Request good(std::string_view line) {
  const ParsedRow row = parse(line);
  if (const auto* error = std::get_if<RowError>(&row)) {
    ADD_FAILURE() << line << "\n  " << error->code << ": " << error->message;
    return {};
  }
  return std::get<Request>(row);
}

/// Expects an error with `code` whose message holds every one of `parts`.
RowError bad(std::string_view line, std::string_view code, std::initializer_list<std::string_view> parts = {}) {
  const ParsedRow row = parse(line);
  if (!std::holds_alternative<RowError>(row)) {
    ADD_FAILURE() << "accepted: " << line;
    return {};
  }
  const auto& error = std::get<RowError>(row);
  EXPECT_EQ(error.code, code) << line << "\n  " << error.message;
  for (const auto part : parts) EXPECT_NE(error.message.find(part), std::string::npos) << error.message;
  EXPECT_LT(error.message.size(), 700u);
  EXPECT_EQ(error.line_number, 7u);
  EXPECT_FALSE(error.custom_id.empty());
  EXPECT_TRUE(nlohmann::json::accept(format_error(error))) << format_error(error);
  return error;
}

std::string batch(std::string_view body) {
  return R"({"custom_id":"a","method":"POST","url":"/v1/completions","body":)" + std::string(body) + "}";
}
std::string plain(std::string_view fields) { return R"({"prompt":"x",)" + std::string(fields) + "}"; }

TEST(Request, PlainRowWithDefaults) {
  const Request request = good(R"({"prompt": "Hello"})");
  EXPECT_EQ(request.line_number, 7u);
  EXPECT_EQ(request.custom_id, "line-7");
  EXPECT_FALSE(request.names_itself);
  EXPECT_FALSE(request.batch_format);
  ASSERT_EQ(request.prompts.size(), 1u);
  EXPECT_EQ(std::get<std::string>(request.prompts[0]), "Hello");
  EXPECT_FALSE(request.prompt_is_list);
  EXPECT_EQ(request.max_tokens, 32);
  EXPECT_TRUE(request.stop.empty());
  EXPECT_EQ(request.model, "");
}

TEST(Request, BatchRowWithEveryPlainValue) {
  const Request request = good(batch(
      R"({"model":"m","prompt":"p","max_tokens":5,"stop":["a","\n"],"temperature":0.0,"top_p":0.9,"n":1,"best_of":1,)"
      R"("seed":-3,"logprobs":null,"echo":false,"suffix":"","presence_penalty":0,"frequency_penalty":0.0,)"
      R"("logit_bias":{},"stream":false,"user":"u","metadata":{"k":"v"},"stream_options":null,"top_k":-1})"));
  EXPECT_TRUE(request.batch_format);
  EXPECT_TRUE(request.names_itself);
  EXPECT_EQ(request.custom_id, "a");
  EXPECT_EQ(request.model, "m");
  EXPECT_EQ(request.max_tokens, 5);
  EXPECT_EQ(request.stop, (std::vector<std::string>{"a", "\n"}));
}

TEST(Request, NullMeansAbsent) {
  const Request request = good(batch(R"({"prompt":"p","max_tokens":null,"stop":null,"temperature":null,"model":null,)"
                                     R"("echo":null,"n":null,"messages":null})"));
  EXPECT_EQ(request.max_tokens, 32);
  EXPECT_TRUE(request.stop.empty());
}

TEST(Request, PromptForms) {
  EXPECT_EQ(std::get<Ids>(good(R"({"prompt":[2,0,2147483647]})").prompts.at(0)), (Ids{2, 0, 2147483647}));
  EXPECT_FALSE(good(R"({"prompt":[2]})").prompt_is_list);
  const Request texts = good(R"({"prompt":["a",""]})");
  EXPECT_TRUE(texts.prompt_is_list);
  ASSERT_EQ(texts.prompts.size(), 2u);
  EXPECT_EQ(std::get<std::string>(texts.prompts[1]), "");
  const Request ids = good(R"({"prompt":[[1,2],[3]]})");
  ASSERT_EQ(ids.prompts.size(), 2u);
  EXPECT_EQ(std::get<Ids>(ids.prompts[1]), (Ids{3}));
  EXPECT_TRUE(good(R"({"prompt":["one"]})").prompt_is_list);
  EXPECT_EQ(std::get<std::string>(good(R"({"prompt":""})").prompts[0]), "");
}

TEST(Request, TextIsTakenByteForByte) {
  const Request request = good("{\"prompt\":\"\\u0000 \\ud83d\\ude00 \xC3\xA9\\n\"}");
  EXPECT_EQ(std::get<std::string>(request.prompts[0]), std::string("\0 \xF0\x9F\x98\x80 \xC3\xA9\n", 10));
}

// As programs write that cut a text in the middle of an emoji.
TEST(Request, ALoneSurrogateIsReplacedAndTheRowRuns) {
  const Request request =
      good(R"({"custom_id":"i\ud83d","prompt":["hi \uD83D","\ude00!","\ud83d\ud83d\ude00","\ud83dx"],)"
           R"("stop":["\udfff.","ok"],"metadata":{"\ud800":1}})");
  const std::string replacement = "\xEF\xBF\xBD";
  EXPECT_EQ(request.custom_id, "i" + replacement);
  EXPECT_EQ(std::get<std::string>(request.prompts.at(0)), "hi " + replacement);
  EXPECT_EQ(std::get<std::string>(request.prompts.at(1)), replacement + "!");
  EXPECT_EQ(std::get<std::string>(request.prompts.at(2)), replacement + "\xF0\x9F\x98\x80");
  EXPECT_EQ(std::get<std::string>(request.prompts.at(3)), replacement + "x");
  EXPECT_EQ(request.stop, (std::vector<std::string>{replacement + ".", "ok"}));
  // A backslash that is itself escaped begins no escape.
  EXPECT_EQ(std::get<std::string>(good(R"({"prompt":"\\ud83d \\\ud83d"})").prompts.at(0)), "\\ud83d \\" + replacement);
  bad(R"({"prompt":"\ud8"})", "invalid_json");
  bad(R"({"prompt":"\ud83d\)", "invalid_json");
}

TEST(Request, SaysWhetherTheRowNamesItsMaxTokens) {
  EXPECT_TRUE(good(plain(R"("max_tokens":5)")).names_max_tokens);
  EXPECT_FALSE(good(plain(R"("max_tokens":null)")).names_max_tokens);
  EXPECT_FALSE(good(R"({"prompt":"x"})").names_max_tokens);
}

TEST(Request, BadPrompts) {
  bad(R"({"text":"x"})", "missing_field", {"'prompt'"});
  bad(R"({"prompt":null})", "missing_field", {"'prompt'"});
  bad(R"({"prompt":5})", "invalid_field", {"'prompt'", "expected a string", "got the number 5"});
  bad(R"({"prompt":{"a":1}})", "invalid_field", {"got an object"});
  bad(R"({"prompt":[]})", "invalid_field", {"empty list"});
  bad(R"({"prompt":[[]]})", "invalid_field", {"'prompt[0]'", "empty list"});
  bad(R"({"prompt":[true]})", "invalid_field", {"got true"});
  bad(R"({"prompt":[1,"a"]})", "invalid_field", {"'prompt[1]'", "a token id"});
  bad(R"({"prompt":["a",1]})", "invalid_field", {"'prompt[1]'", "a string"});
  bad(R"({"prompt":[[1],"a"]})", "invalid_field", {"'prompt[1]'"});
  bad(R"({"prompt":[[1],[2,[3]]]})", "invalid_field", {"'prompt[1][1]'", "got a list"});
  bad(R"({"prompt":[1,-1]})", "invalid_field", {"'prompt[1]'", "-1"});
  bad(R"({"prompt":[2147483648]})", "invalid_field", {"2147483648"});
  bad(R"({"prompt":[18446744073709551616]})", "invalid_field", {"'prompt[0]'"});
  bad(R"({"prompt":[1.5]})", "invalid_field", {"1.5"});
}

TEST(Request, MaxTokens) {
  EXPECT_EQ(good(plain(R"("max_tokens":1)")).max_tokens, 1);
  EXPECT_EQ(good(plain(R"("max_tokens":2147483647)")).max_tokens, 2147483647);
  bad(plain(R"("max_tokens":0)"), "unsupported_value", {"'max_tokens'", "1 or more"});
  EXPECT_EQ(good(plain(R"("max_tokens":0,"echo":true)")).max_tokens, 0);
  bad(plain(R"("max_tokens":-1)"), "invalid_field", {"-1", "out of range"});
  bad(plain(R"("max_tokens":2147483648)"), "invalid_field", {"out of range"});
  bad(plain(R"("max_tokens":99999999999999999999999)"), "invalid_field", {"an integer"});
  bad(plain(R"("max_tokens":16.0)"), "invalid_field", {"expected an integer", "16.0"});
  bad(plain(R"("max_tokens":"16")"), "invalid_field", {"the string \"16\""});
}

TEST(Request, TextsToBeScored) {
  const auto scored = [](std::string_view line) { return parse_request(line, 7, RequestDefaults{0, true}); };
  EXPECT_EQ(std::get<std::string>(std::get<Request>(scored(R"({"text":"x"})")).prompts.at(0)), "x");
  EXPECT_EQ(std::get<std::string>(std::get<Request>(scored(R"({"prompt":"x","max_tokens":0})")).prompts.at(0)), "x");
  EXPECT_EQ(std::get<Request>(scored(R"({"text":[1,2],"stop":"y"})")).prompts.size(), 1U);
  EXPECT_EQ(std::get<RowError>(scored(R"({"text":"x","prompt":"y"})")).code, "invalid_field");
  EXPECT_EQ(std::get<RowError>(scored(R"({"x":1})")).code, "missing_field");
  bad(R"({"text":"x"})", "missing_field", {"'prompt'"});  // elsewhere it is the user's own
}

TEST(Request, Stop) {
  EXPECT_EQ(good(plain(R"("stop":"\n\n")")).stop, std::vector<std::string>{"\n\n"});
  EXPECT_TRUE(good(plain(R"("stop":[])")).stop.empty());
  std::string list = R"("s")";
  for (int i = 1; i < 16; ++i) list += R"(,"s")";
  EXPECT_EQ(good(plain(R"("stop":[)" + list + "]")).stop.size(), 16u);
  bad(plain(R"("stop":[)" + list + R"(,"s"])"), "invalid_field", {"17", "at most 16"});
  bad(plain(R"("stop":"")"), "invalid_field", {"'stop'", "empty"});
  bad(plain(R"("stop":["a",""])"), "invalid_field", {"'stop[1]'"});
  bad(plain(R"("stop":["a",3])"), "invalid_field", {"'stop[1]'", "the number 3"});
  bad(plain(R"("stop":5)"), "invalid_field", {"'stop'"});
}

TEST(Request, TheNewerNameOfMaxTokens) {
  const Request request = good(plain(R"("max_completion_tokens":5)"));
  EXPECT_EQ(request.max_tokens, 5);
  EXPECT_TRUE(request.names_max_tokens);
  EXPECT_EQ(good(batch(plain(R"("max_completion_tokens":5,"max_tokens":5)"))).max_tokens, 5);
  EXPECT_EQ(good(plain(R"("max_completion_tokens":null,"max_tokens":4)")).max_tokens, 4);
  bad(plain(R"("max_completion_tokens":5,"max_tokens":6)"), "invalid_field", {"mean the same"});
  bad(plain(R"("max_completion_tokens":"5")"), "invalid_field", {"'max_completion_tokens'", "integer"});
}

// As HELM sends it: without a temperature all answers are the same, and the best of any number is the first.
TEST(Request, TheBestOfSeveralGreedyAnswersIsTheFirst) {
  EXPECT_EQ(good(plain(R"("best_of":5,"temperature":0,"n":1)")).best_of, 1);
}

TEST(Request, WhatCannotBeHonouredIsRefusedInBothForms) {
  for (const auto& [field, value] :
       {std::pair{"messages", "[1]"}, {"max_new_tokens", "[1]"}, {"tools", "[1]"}, {"response_format", "[1]"}}) {
    const std::string pair = fmt::format("\"{}\":{}", field, value);
    const std::string quoted = fmt::format("'{}'", field);
    bad(plain(pair), "unsupported_field", {quoted});
    bad(batch(plain(pair)), "unsupported_field", {quoted});
  }
  for (const auto& [field, value] :
       {std::pair{"suffix", R"("end")"}, {"stream", "true"}, {"use_beam_search", "true"}}) {
    const std::string pair = fmt::format("\"{}\":{}", field, value);
    const std::string quoted = fmt::format("'{}'", field);
    bad(plain(pair), "unsupported_value", {quoted, "supported is"});
    bad(batch(plain(pair)), "unsupported_value", {quoted, "supported is"});
  }
}

TEST(Request, TextsThatAreScoredHaveNoAnswerToBeAskedFor) {
  for (const auto& [field, value] : {std::pair{"temperature", "0.7"},
                                     {"n", "2"},
                                     {"logprobs", "0"},
                                     {"prompt_logprobs", "0"},
                                     {"echo", "true"},
                                     {"presence_penalty", "1"},
                                     {"frequency_penalty", "-0.5"},
                                     {"logit_bias", R"({"50256":-100})"},
                                     {"repetition_penalty", "1.1"},
                                     {"min_tokens", "4"},
                                     {"ignore_eos", "true"},
                                     {"stop_token_ids", "[1]"},
                                     {"choices", R"(["a","b"])"}}) {
    const std::string row = plain(fmt::format("\"{}\":{}", field, value));
    EXPECT_NO_THROW(good(row)) << row;
    const ParsedRow scored = parse_request(row, 1, {32, true});
    const auto* const error = std::get_if<RowError>(&scored);
    ASSERT_NE(error, nullptr) << row;
    EXPECT_EQ(error->code, "unsupported_field");
    EXPECT_NE(error->message.find(fmt::format("'{}'", field)), std::string::npos) << error->message;
  }
}

// Data sets of questions often have such a column.
TEST(Request, ChoicesThatAreNoTextsAreTheUsersOwnInAPlainRow) {
  for (const char* choices : {R"({"text":["a","b"],"label":["A","B"]})", "3", R"(["a",1])", R"("a")"}) {
    const std::string field = fmt::format("\"choices\":{}", choices);
    const Request request = good(plain(field));
    EXPECT_TRUE(request.choices.empty());
    EXPECT_EQ(request.unread_fields, std::vector<std::string>{"choices"});
    bad(batch(plain(field)), "invalid_field", {"choices"});
  }
  EXPECT_TRUE(good(plain(R"("choices":null)")).unread_fields.empty());
  EXPECT_TRUE(good(plain(R"("choices":["a"])")).unread_fields.empty());
}

TEST(Request, WrongTypesNameFieldExpectedAndGot) {
  bad(plain(R"("temperature":"0")"), "invalid_field", {"'temperature'", "expected a number", "the string \"0\""});
  bad(plain(R"("temperature":false)"), "invalid_field", {"got false"});
  bad(plain(R"("top_p":"x")"), "invalid_field", {"'top_p'"});
  bad(plain(R"("seed":1.5)"), "invalid_field", {"'seed'", "an integer"});
  bad(plain(R"("echo":0)"), "invalid_field", {"'echo'", "true or false"});
  bad(plain(R"("logit_bias":[])"), "invalid_field", {"'logit_bias'", "an empty list"});
  bad(plain(R"("suffix":1)"), "invalid_field", {"'suffix'"});
  bad(plain(R"("model":1)"), "invalid_field", {"'model'"});
}

TEST(Request, ForeignFields) {
  EXPECT_EQ(good(plain(R"("answer":"B","id":3,"url":"http://x","nested":{"a":[1]})")).prompts.size(), 1u);
  EXPECT_FALSE(good(plain(R"("body":"an article","url":"http://x")")).batch_format);
  bad(batch(R"({"prompt":"x","max_token":5})"), "unknown_field", {"'max_token'"});
  bad(R"({"custom_id":"a","method":"POST","url":"/v1/completions","max_tokens":3,"body":{"prompt":"x"}})",
      "invalid_field", {"'max_tokens'", "beside 'body'"});
  EXPECT_EQ(
      good(R"({"custom_id":"a","method":"POST","url":"/v1/completions","note":3,"body":{"prompt":"x"}})").custom_id,
      "a");
}

TEST(Request, CustomId) {
  EXPECT_EQ(good(R"({"custom_id":"q\u00e9 1","prompt":"x"})").custom_id, "q\xC3\xA9 1");
  EXPECT_EQ(good(R"({"custom_id":null,"prompt":"x"})").custom_id, "line-7");
  EXPECT_EQ(bad(R"({"custom_id":5,"prompt":"x"})", "invalid_field", {"'custom_id'"}).custom_id, "line-7");
  bad(R"({"custom_id":"","prompt":"x"})", "invalid_field", {"empty"});
  const RowError error =
      bad(R"({"method":"POST","url":"/v1/completions","body":{"prompt":"x"}})", "missing_field", {"'custom_id'"});
  EXPECT_EQ(error.custom_id, "line-7");
  EXPECT_TRUE(error.batch_format);
  EXPECT_EQ(bad(R"({"custom_id":"kept","prompt":3})", "invalid_field").custom_id, "kept");
}

TEST(Request, Endpoints) {
  const auto row = [](std::string_view rest) { return R"({"custom_id":"a",)" + std::string(rest) + "}"; };
  bad(row(R"("method":"POST","url":"/v1/chat/completions","body":{"messages":[]})"), "unsupported_url",
      {"chat", "chat template", "/v1/completions"});
  bad(row(R"("method":"POST","url":"/v1/embeddings","body":{})"), "unsupported_url", {"/v1/embeddings"});
  bad(row(R"("method":"GET","url":"/v1/completions","body":{})"), "unsupported_value", {"GET"});
  bad(row(R"("url":"/v1/completions","body":{"prompt":"x"})"), "missing_field", {"'method'"});
  bad(row(R"("method":"POST","body":{"prompt":"x"})"), "missing_field", {"'url'"});
  bad(row(R"("method":"POST","url":"/v1/completions")"), "missing_field", {"'body'"});
  bad(row(R"("method":"POST","url":"/v1/completions","body":"x")"), "invalid_field", {"'body'", "an object"});
  bad(row(R"("method":1,"url":"/v1/completions","body":{"prompt":"x"})"), "invalid_field", {"'method'"});
  bad(row(R"("body":{"prompt":"x"})"), "missing_field", {"'url'"});
}

TEST(Request, HostileJson) {
  for (const std::string_view line :
       {"{", "}", "", "nul", "{\"prompt\":\"x\"", "{\"prompt\":\"x\"} {}", "{\"prompt\":\"x\",}", "{'prompt':'x'}",
        "{\"prompt\":NaN}", "{\"prompt\":\"a\nb\"}", "[1,2", "\"text"})
    bad(line, "invalid_json");
  bad("[1]", "invalid_json", {"not a JSON object", "a list"});
  bad("\"text\"", "invalid_json", {"the string \"text\""});
  bad("42", "invalid_json", {"the number 42"});
  bad("{\"prompt\":\"\xFF\xFE\"}", "invalid_json", {"UTF-8"});
  bad("{\"prompt\":\"\xED\xA0\x80\"}", "invalid_json", {"UTF-8"});
  bad("{\"prompt\":\"cut \xE2\x82\"}", "invalid_json", {"UTF-8"});
  bad(R"({"prompt":"x","temperature":1e999})", "invalid_json", {"overflow"});
  bad(std::string("{\"prompt\":\"x\"}\0garbage", 22), "invalid_json", {"NUL", "byte 15"});
  bad(std::string("{\"prompt\":\"a\0b\"}", 16), "invalid_json", {"NUL"});
  bad(R"({"prompt":"a","prompt":"b"})", "invalid_json", {"\"prompt\"", "twice"});
  bad(batch(R"({"prompt":"a","n":1,"n":2})"), "invalid_json", {"twice"});
}

TEST(Request, DeepNestingIsRefusedWithoutRecursion) {
  const std::string deep(1'000'000, '[');
  bad(deep, "invalid_json", {"deeper"});
  bad(R"({"prompt":"x","mine":)" + deep, "invalid_json", {"deeper"});
  std::string objects;
  for (int i = 0; i < 100'000; ++i) objects += "{\"a\":";
  bad(objects, "invalid_json", {"deeper"});
  good(R"({"prompt":"x","mine":)" + std::string(60, '[') + std::string(60, ']') + "}");
}

TEST(Request, MessagesStayShortWhateverTheRowHolds) {
  const std::string text(200'000, 'x');
  bad(plain(R"("max_tokens":")" + text + "\""), "invalid_field", {"..."});
  bad(R"({"prompt":")" + text, "invalid_json");
  bad(batch(R"({"prompt":"x",")" + text + "\":1}"), "unknown_field", {"..."});
  bad(R"({"custom_id":"a","method":"POST","url":")" + text + R"(","body":{}})", "unsupported_url", {"..."});
  std::string wide;
  for (int i = 0; i < 1000; ++i) wide += "\xE2\x82\xAC";
  const RowError error = bad(plain(R"("seed":")" + wide + "\""), "invalid_field");
  EXPECT_EQ(nlohmann::json::parse(format_error(error))["error"]["message"], error.message);  // no character was cut
}

}  // namespace
}  // namespace flexgen::test

// Fields of sampling: their values and their limits.
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "fmt/format.h"
#include "job/request_fields.hpp"

namespace flexgen::test {
namespace {

using Ids = std::vector<std::int32_t>;

Request read(const std::string& fields, const std::string& custom_id = "a") {
  Request request;
  request.custom_id = custom_id;
  request.batch_format = true;
  read_fields(nlohmann::json::parse("{\"prompt\":\"x\"" + (fields.empty() ? "" : "," + fields) + "}"), {}, request);
  return request;
}

/// Expects a problem whose message holds every one of `parts`.
void bad(const std::string& fields, std::initializer_list<std::string_view> parts,
         std::string_view code = "invalid_field") {
  try {
    read(fields);
    ADD_FAILURE() << "accepted: " << fields;
  } catch (const RowProblem& problem) {
    const std::string_view message = problem.what();
    EXPECT_EQ(problem.code, code) << message;
    for (const auto part : parts) EXPECT_NE(message.find(part), message.npos) << fields << "\n  " << message;
  }
}

TEST(RequestSampling, AbsentFieldsAskForOneGreedyAnswer) {
  for (const Request& request :
       {read(""), read(R"("temperature":null,"top_p":null,"top_k":null,"min_p":null,"n":null,"best_of":null,
                          "repetition_penalty":null,"presence_penalty":null,"frequency_penalty":null,
                          "logit_bias":null,"seed":null,"min_tokens":null,"ignore_eos":null,"stop_token_ids":null,
                          "logprobs":null,"top_logprobs":null,"prompt_logprobs":null,"echo":null,"choices":null)")}) {
    EXPECT_TRUE(request.sampling.is_plain_greedy());
    EXPECT_EQ(request.sampling.top_p, 1.0F);
    EXPECT_EQ(request.sampling.top_k, 0);
    EXPECT_EQ(request.n, 1);
    EXPECT_EQ(request.best_of, 1);
    EXPECT_EQ(request.prompt_logprobs, -1);
    EXPECT_FALSE(request.echo);
    EXPECT_FALSE(request.ignore_eos);
    EXPECT_TRUE(request.stop_token_ids.empty());
    EXPECT_TRUE(request.choices.empty());
    EXPECT_NO_THROW(refuse_what_scoring_does_not(request));
  }
}

TEST(RequestSampling, EveryFieldIsRead) {
  const Request request = read(R"("temperature":0.5,"top_p":0.9,"top_k":40,"min_p":0.05,"repetition_penalty":1.25,
      "presence_penalty":-2,"frequency_penalty":2.0,"logit_bias":{"50256":-100,"7":1.5,"8":0},"seed":-3,"n":3,
      "best_of":5,"min_tokens":4,"max_tokens":9,"ignore_eos":true,"stop_token_ids":[13,0],"logprobs":5,
      "prompt_logprobs":2,"echo":true)");
  EXPECT_EQ(request.sampling.temperature, 0.5F);
  EXPECT_EQ(request.sampling.top_p, 0.9F);
  EXPECT_EQ(request.sampling.top_k, 40);
  EXPECT_EQ(request.sampling.min_p, 0.05F);
  EXPECT_EQ(request.sampling.repetition_penalty, 1.25F);
  EXPECT_EQ(request.sampling.presence_penalty, -2.0F);
  EXPECT_EQ(request.sampling.frequency_penalty, 2.0F);
  ASSERT_EQ(request.sampling.logit_bias.size(), 2U);
  EXPECT_EQ(request.sampling.logit_bias[0].token, 7);
  EXPECT_EQ(request.sampling.logit_bias[0].bias, 1.5F);
  EXPECT_EQ(request.sampling.logit_bias[1].token, 50256);
  EXPECT_EQ(request.sampling.logit_bias[1].bias, -100.0F);
  EXPECT_EQ(request.sampling.seed, static_cast<std::uint64_t>(-3));
  EXPECT_EQ(request.sampling.min_tokens, 4);
  EXPECT_EQ(request.sampling.num_logprobs, 5);
  EXPECT_EQ(request.n, 3);
  EXPECT_EQ(request.best_of, 5);
  EXPECT_TRUE(request.ignore_eos);
  EXPECT_EQ(request.stop_token_ids, (Ids{13, 0}));
  EXPECT_EQ(request.prompt_logprobs, 2);
  EXPECT_TRUE(request.echo);
}

TEST(RequestSampling, EachFieldThatChangesTokensMakesARowOtherThanPlain) {
  for (const char* fields :
       {R"("temperature":0.1)", R"("repetition_penalty":1.1)", R"("presence_penalty":0.1)",
        R"("frequency_penalty":0.1)", R"("logit_bias":{"1":1})", R"("min_tokens":1)", R"("logprobs":0)"})
    EXPECT_FALSE(read(fields).sampling.is_plain_greedy()) << fields;
  for (const char* fields : {R"("top_p":0.5)", R"("top_k":3)", R"("min_p":0.5)", R"("seed":7)"})
    EXPECT_TRUE(read(fields).sampling.is_plain_greedy()) << fields;  // without effect on the likeliest token
}

TEST(RequestSampling, LimitsOfNumbers) {
  struct Limits {
    const char* name;
    std::vector<const char*> good, bad;
  };
  const Limits all[] = {{"temperature", {"0", "2", "1e-9"}, {"-0.1", "2.1", "1e300"}},
                        {"top_p", {"1", "1e-60"}, {"0", "1.01", "-1"}},
                        {"min_p", {"0", "1"}, {"-0.1", "1.1"}},
                        {"repetition_penalty", {"0.01", "100"}, {"0", "-1", "101"}},
                        {"presence_penalty", {"-2", "2"}, {"-2.1", "2.1"}},
                        {"frequency_penalty", {"-2", "2"}, {"-2.1", "2.1"}},
                        {"top_k", {"-1", "0", "2147483647"}, {"-2", "2147483648", "18446744073709551615"}},
                        {"seed", {"9223372036854775807", "-9223372036854775808"}, {"9223372036854775808"}},
                        {"n", {"1", "128"}, {"0", "129"}},
                        {"best_of", {"1", "20"}, {"0", "21"}},
                        {"logprobs", {"0", "20"}, {"-1", "21"}},
                        {"prompt_logprobs", {"0", "20"}, {"-1", "21"}},
                        {"min_tokens", {"0", "32"}, {"-1", "2147483648"}},
                        {"max_tokens", {"32", "2147483647"}, {"-1", "2147483648"}},
                        {"logit_bias", {R"({"1":-100})", R"({"1":100})"}, {R"({"1":-101})", R"({"1":100.5})"}}};
  for (const auto& [name, good_values, bad_values] : all) {
    for (const char* value : good_values) EXPECT_NO_THROW(read(fmt::format("\"{}\":{}", name, value))) << name << value;
    for (const char* value : bad_values) bad(fmt::format("\"{}\":{}", name, value), {name, "out of range"});
  }
  EXPECT_GT(read(R"("top_p":1e-60)").sampling.top_p, 0.0F);
  EXPECT_EQ(read(R"("top_k":-1)").sampling.top_k, 0);
}

TEST(RequestSampling, TypesAreChecked) {
  for (const char* name : {"temperature", "top_p", "min_p", "repetition_penalty", "presence_penalty"})
    bad(fmt::format("\"{}\":\"1\"", name), {name, "expected a number"});
  for (const char* name : {"top_k", "seed", "n", "best_of", "min_tokens", "prompt_logprobs"})
    bad(fmt::format("\"{}\":1.5", name), {name, "expected an integer"});
  for (const char* name : {"echo", "ignore_eos"}) bad(fmt::format("\"{}\":1", name), {name, "expected true or false"});
  bad(R"("logprobs":"5")", {"'logprobs'"});
  bad(R"("stop_token_ids":5)", {"'stop_token_ids'", "a list"});
  bad(R"("stop_token_ids":[1,-5])", {"'stop_token_ids[1]'"});
  bad(R"("logit_bias":[])", {"'logit_bias'", "an object"});
  for (const char* name : {"-1", "x", "01", "+1", "1 ", "", "2147483648", "1.0"})
    bad(fmt::format(R"("logit_bias":{{"{}":1}})", name), {"'logit_bias'", "a token id"});
  bad(R"("logit_bias":{"1":"a"})", {"logit_bias[\"1\"]", "a number"});
  bad(R"("choices":"a")", {"'choices'", "a list of strings"});
  bad(R"("choices":["a",1])", {"'choices[1]'", "a string"});
}

TEST(RequestSampling, SeedAbsentIsMadeOfTheId) {
  EXPECT_EQ(read("", "q").sampling.seed, read("", "q").sampling.seed);
  EXPECT_NE(read("", "q").sampling.seed, read("", "r").sampling.seed);
  EXPECT_EQ(read(R"("seed":5)", "q").sampling.seed, read(R"("seed":5)", "r").sampling.seed);
}

TEST(RequestSampling, BestOfCountsWithATemperatureAlone) {
  EXPECT_EQ(read(R"("best_of":5)").best_of, 1);
  EXPECT_EQ(read(R"("best_of":5,"temperature":1)").best_of, 5);
  EXPECT_EQ(read(R"("n":3,"temperature":1)").best_of, 3);
  EXPECT_EQ(read(R"("n":30)").best_of, 30);
  bad(R"("n":3,"best_of":2)", {"'best_of'", "less than 'n'"});
}

TEST(RequestSampling, LogprobsInBothForms) {
  EXPECT_EQ(read(R"("logprobs":false)").sampling.num_logprobs, -1);
  EXPECT_EQ(read(R"("logprobs":true)").sampling.num_logprobs, 0);
  EXPECT_EQ(read(R"("logprobs":true,"top_logprobs":7)").sampling.num_logprobs, 7);
  for (const char* other : {"", R"("logprobs":false,)", R"("logprobs":3,)"})
    bad(fmt::format(R"({}"top_logprobs":7)", other), {"'top_logprobs'", "without 'logprobs': true"});
  bad(R"("logprobs":true,"top_logprobs":21)", {"'top_logprobs'", "out of range"});
}

TEST(RequestSampling, Lengths) {
  EXPECT_EQ(read(R"("max_tokens":0,"echo":true)").max_tokens, 0);
  EXPECT_EQ(read(R"("max_tokens":0,"prompt_logprobs":0)").max_tokens, 0);
  EXPECT_EQ(read(R"("max_tokens":0,"choices":["a"])").max_tokens, 0);
  bad(R"("max_tokens":0)", {"'max_tokens'", "'echo'"}, "unsupported_value");
  bad(R"("max_tokens":0,"logprobs":1)", {"'max_tokens'"}, "unsupported_value");
  EXPECT_EQ(read(R"("max_tokens":5,"min_tokens":5)").sampling.min_tokens, 5);
  bad(R"("max_tokens":5,"min_tokens":6)", {"'min_tokens'", "6 than 5"});
  bad(R"("min_tokens":33)", {"'min_tokens'", "33 than 32"});
}

TEST(RequestSampling, Choices) {
  EXPECT_EQ(read(R"("choices":["Yes","No"],"logprobs":1,"n":1,"best_of":5,"stop":[],"echo":false)").choices,
            (std::vector<std::string>{"Yes", "No"}));
  bad(R"("choices":[])", {"'choices'", "empty list"});
  bad(R"("choices":["a",""])", {"'choices[1]'", "is empty"});
  bad(R"("choices":["a","b","a"])", {"'choices[2]'", "already"});
  for (const auto& [name, fields] : {std::pair{"n", R"("n":2)"},
                                     {"best_of", R"("best_of":2,"temperature":1)"},
                                     {"stop", R"("stop":"x")"},
                                     {"echo", R"("echo":true)"}})
    bad(fmt::format(R"("choices":["a","b"],{})", fields), {"'choices'", fmt::format("'{}'", name)});
}

}  // namespace
}  // namespace flexgen::test

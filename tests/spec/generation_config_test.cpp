// What a generation_config.json asks for: the ids that end a row, and wishes that are named.
#include "spec/generation_config.hpp"

#include <gtest/gtest.h>

#include "base/error.hpp"

namespace flexgen::test {
namespace {

using Ids = std::vector<std::int32_t>;
using Texts = std::vector<std::string>;

GenerationConfig parse(const std::string& text) {
  return parse_generation_config(text, "tiny/generation_config.json", ConfigKind::generation);
}

TEST(GenerationConfig, SeveralTokensEndARow) {
  EXPECT_EQ(parse(R"({"eos_token_id": 5})").eos_tokens, Ids{5});
  EXPECT_EQ(parse(R"({"eos_token_id": [2, 3710, 2]})").eos_tokens, (Ids{2, 3710}));
  EXPECT_EQ(parse(R"({"eos_token_id": null})").eos_tokens, Ids{});
  EXPECT_EQ(parse("{}").eos_tokens, Ids{}) << "the file decides alone, as in transformers";
  for (const char* text : {R"({"eos_token_id": "2"})", R"({"eos_token_id": [2.5]})", R"({"eos_token_id": [-1]})",
                           R"({"eos_token_id": {"a": 1}})", "[]", "{"})
    EXPECT_THROW(parse(text), UserError) << text;
}

TEST(GenerationConfig, ValuesThatChangeNothingAreNoWishes) {
  EXPECT_EQ(parse(R"({"_from_model_config": true, "bos_token_id": 2, "pad_token_id": 1, "transformers_version": "5",
    "num_beams": 1, "repetition_penalty": 1.0, "do_sample": false, "temperature": 0.7, "top_k": 50, "top_p": 0.9,
    "min_p": 0.1, "typical_p": 0.2, "bad_words_ids": [], "suppress_tokens": [], "sequence_bias": {}, "min_length": 0,
    "no_repeat_ngram_size": 0, "guidance_scale": 1, "num_return_sequences": 1, "penalty_alpha": 0, "max_length": 20,
    "forced_eos_token_id": null, "length_penalty": 2.0, "early_stopping": true, "use_cache": false})")
                .not_done,
            Texts{});
}

TEST(GenerationConfig, WishesAreNamedWithTheirValues) {
  EXPECT_EQ(parse(R"({"repetition_penalty": 1.2})").not_done, Texts{"repetition_penalty 1.2"});
  EXPECT_EQ(parse(R"({"do_sample": true, "temperature": 0.6, "top_p": 1.0})").not_done,
            (Texts{"do_sample true", "temperature 0.6"}));
  EXPECT_EQ(parse(R"({"num_beams": 4, "length_penalty": 2.0})").not_done, (Texts{"length_penalty 2.0", "num_beams 4"}));
  for (const char* member :
       {R"("no_repeat_ngram_size": 3)", R"("encoder_no_repeat_ngram_size": 2)", R"("suppress_tokens": [5])",
        R"("begin_suppress_tokens": [5])", R"("forced_bos_token_id": 0)", R"("forced_eos_token_id": 2)",
        R"("bad_words_ids": [[5]])", R"("min_new_tokens": 4)", R"("min_length": 4)", R"("penalty_alpha": 0.6)",
        R"("num_return_sequences": 2)", R"("guidance_scale": 1.5)", R"("sequence_bias": [[[5], 2.0]])",
        R"("exponential_decay_length_penalty": [4, 1.1])", R"("max_length": 100)", R"("max_new_tokens": 7)",
        R"("stop_strings": ["x"])", R"("something_new": 3)"})
    EXPECT_EQ(parse(std::string("{") + member + "}").not_done.size(), 1U) << member;
}

TEST(GenerationConfig, LongValuesAreCut) {
  const Texts wishes = parse(R"({"stop_strings": ")" + std::string(500, 'x') + "\"}").not_done;
  ASSERT_EQ(wishes.size(), 1U);
  EXPECT_LT(wishes[0].size(), 100U);
}

}  // namespace
}  // namespace flexgen::test

// What a generation_config.json asks for: the ids that end a row, and wishes that are named.
#include "spec/generation_config.hpp"

#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>

#include "base/error.hpp"
#include "spec/model_spec.hpp"
#include "tests/support/scratch_place.hpp"

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

class ModelFolderFiles : public ::testing::Test {
 protected:
  void write(const char* name, const std::string& text) { std::ofstream(place_.path() / name) << text; }
  void write_config(const std::string& more) {
    write("config.json", R"({"model_type": "opt", "num_hidden_layers": 2, "num_attention_heads": 4, "hidden_size": 32,
                             "ffn_dim": 96, "vocab_size": 100, "max_position_embeddings": 50)" +
                             more + "}");
  }
  std::string folder() const { return place_.path().string(); }
  test::ScratchPlace place_;
};

TEST_F(ModelFolderFiles, TheGenerationConfigWinsOverTheConfig) {
  write_config(R"(, "eos_token_id": [7, 8])");
  EXPECT_EQ(read_model_spec(folder()).eos_tokens, (Ids{7, 8}));
  write("generation_config.json", R"({"eos_token_id": [2, 10]})");
  EXPECT_EQ(read_model_spec(folder()).eos_tokens, (Ids{2, 10}));
  write("generation_config.json", R"({"eos_token_id": null})");
  EXPECT_EQ(read_model_spec(folder()).eos_tokens, Ids{});
  EXPECT_EQ(describe_unread_wishes(folder()).size(), 1U) << "nothing ends a row: that is said";
  write("generation_config.json", "{");
  EXPECT_THROW(read_model_spec(folder()), UserError);
}

TEST_F(ModelFolderFiles, WishesOfOldModelsStandInTheConfig) {
  write_config(R"(, "repetition_penalty": 1.2, "eos_token_id": 2)");
  const Texts sentences = describe_unread_wishes(folder());
  ASSERT_EQ(sentences.size(), 1U);
  EXPECT_NE(sentences[0].find("config.json asks for repetition_penalty 1.2"), std::string::npos) << sentences[0];
  EXPECT_EQ(describe_unread_members(folder()), Texts{}) << "named once";
  write("generation_config.json", R"({"eos_token_id": 2})");
  EXPECT_EQ(describe_unread_wishes(folder()), Texts{});
}

TEST_F(ModelFolderFiles, MembersThatNothingReadsAreNamed) {
  write_config(R"(, "dropout": 0.1, "use_cache": true, "prefix": "</s>", "sliding_window": null, "is_decoder": false)");
  EXPECT_EQ(describe_unread_members(folder()), Texts{});
  write_config(R"(, "rope_scaling": {"factor": 2}, "position_embedding_type": "relative_key")");
  const Texts sentences = describe_unread_members(folder());
  ASSERT_EQ(sentences.size(), 1U);
  for (const char* part : {"rope_scaling", "position_embedding_type \"relative_key\"", "config.json"})
    EXPECT_NE(sentences[0].find(part), std::string::npos) << sentences[0];
}

TEST_F(ModelFolderFiles, QuantizedWeightsAreRefused) {
  write_config(R"(, "quantization_config": {"quant_method": "gptq", "bits": 4})");
  try {
    read_model_spec(folder());
    FAIL();
  } catch (const UserError& error) {
    EXPECT_EQ(error.code(), ExitCode::model);
    for (const char* part : {"quantization_config", "--compress-weight"})
      EXPECT_NE(std::string(error.what()).find(part), std::string::npos) << error.what();
  }
  write_config(R"(, "quantization_config": null)");
  EXPECT_NO_THROW(read_model_spec(folder()));
}

TEST_F(ModelFolderFiles, Float64RunsAsFloat32) {
  for (const char* name : {"float64", "torch.float64"}) {
    write_config(R"(, "torch_dtype": ")" + std::string(name) + "\"");
    EXPECT_EQ(read_model_spec(folder()).stored_dtype, DType::float32);
  }
}

}  // namespace
}  // namespace flexgen::test

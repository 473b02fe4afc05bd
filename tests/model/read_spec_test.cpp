#include "model/read_spec.hpp"

#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <map>
#include <nlohmann/json.hpp>

#include "base/error.hpp"
#include "model/layer.hpp"
#include "tests/support/scratch_place.hpp"

namespace flexgen::test {
namespace {

using nlohmann::json;
using Ids = std::vector<std::int32_t>;
using Texts = std::vector<std::string>;
const std::filesystem::path configs = std::filesystem::path(FLEXGEN_SOURCE_DIR) / "configs";

json small_config() {
  return {{"model_type", "opt"}, {"num_hidden_layers", 2}, {"num_attention_heads", 4},     {"hidden_size", 32},
          {"ffn_dim", 96},       {"vocab_size", 100},      {"max_position_embeddings", 50}};
}

ModelSpec parse(const json& config) { return parse_model_spec(config.dump(), "models/tiny/config.json"); }

// Expects a refusal that names the file and has every one of `parts` in its message.
void expect_refused(const std::string& text, const std::vector<std::string>& parts) {
  try {
    parse_model_spec(text, "models/tiny/config.json");
    ADD_FAILURE() << "was accepted: " << text;
  } catch (const UserError& error) {
    EXPECT_EQ(error.code(), ExitCode::model);
    const std::string message = error.what();
    EXPECT_NE(message.find("models/tiny/config.json"), std::string::npos) << message;
    for (const std::string& part : parts) EXPECT_NE(message.find(part), std::string::npos) << message;
  }
}

// A decoder-only transformer counted from its config, matrix by matrix.
std::uint64_t count_by_hand(const json& config) {
  const auto number = [&](const char* key) { return config.at(key).get<std::uint64_t>(); };
  const std::uint64_t h = number("hidden_size");
  const std::uint64_t f = number("ffn_dim");
  const std::uint64_t e = number("word_embed_proj_dim");
  const bool pre_norm = config.at("do_layer_norm_before").get<bool>();
  std::uint64_t layer = 0;
  for (int i = 0; i < 4; ++i) layer += h * h + h;  // q, k, v, out
  layer += f * h + f;                              // fc1
  layer += h * f + h;                              // fc2
  layer += 2 * (h + h);                            // two LayerNorms
  std::uint64_t total = number("num_hidden_layers") * layer;
  total += number("vocab_size") * e;
  total += (number("max_position_embeddings") + 2) * h;
  if (e != h) total += e * h + h * e;
  if (pre_norm) total += 2 * h;
  return total;
}

TEST(ModelSpec, EveryShapeHasTheParametersOfItsName) {
  const std::map<std::string, double> published{{"opt-125m", 125.2e6}, {"opt-350m", 331.2e6}, {"opt-1.3b", 1.316e9},
                                                {"opt-2.7b", 2.652e9}, {"opt-6.7b", 6.658e9}, {"opt-13b", 12.85e9},
                                                {"opt-30b", 29.97e9},  {"opt-66b", 65.7e9},   {"opt-175b", 174.6e9}};
  for (const auto& [name, parameters] : published) {
    const std::filesystem::path folder = configs / "models" / name;
    const ModelSpec spec = read_model_spec(folder.string());
    std::ifstream file(folder / "config.json");
    EXPECT_EQ(num_parameters(spec), count_by_hand(json::parse(file))) << name;
    EXPECT_NEAR(static_cast<double>(num_parameters(spec)) / parameters, 1, 0.002) << name;
    EXPECT_EQ(spec.name, name);
    EXPECT_EQ(spec.family, "opt");
    EXPECT_EQ(spec.stored_dtype, DType::float16);
    EXPECT_EQ(spec.max_positions, 2048);
    EXPECT_EQ(spec.attention.head_size * spec.attention.heads, spec.hidden);
  }
  std::size_t num_shapes = 0;
  for (const auto& entry : std::filesystem::directory_iterator(configs / "models")) num_shapes += entry.is_directory();
  EXPECT_EQ(num_shapes, published.size()) << "a shape that this test does not know";
}

TEST(ModelSpec, DemoModel) {
  const ModelSpec spec = read_model_spec((configs / "demo-model").string());
  EXPECT_EQ(spec.name, "demo-model");
  EXPECT_EQ(spec.num_layers, 8);
  EXPECT_EQ(spec.attention.head_size, 64);
  EXPECT_EQ(num_parameters(spec),
            8 * (4 * (256 * 256 + 256) + 2 * 256 * 1024 + 1024 + 256 + 4 * 256) + 4096 * 256 + 2050 * 256 + 512);
  EXPECT_TRUE(spec.head.tied);
}

TEST(ModelSpec, Opt350mIsTheOddOne) {
  const ModelSpec spec = read_model_spec((configs / "models/opt-350m").string());
  EXPECT_EQ(spec.residual, Residual::post);
  EXPECT_FALSE(spec.head.norm);
  EXPECT_EQ(spec.embedding.width, 512);
  EXPECT_TRUE(spec.has_projections());
}

TEST(ModelSpec, ReadsAFolderHoweverItIsWritten) {
  const std::string folder = (configs / "models/opt-125m").string();
  EXPECT_EQ(read_model_spec(folder + "/").name, "opt-125m");
  EXPECT_EQ(read_model_spec(folder + "/../opt-125m/.").name, "opt-125m");
}

TEST(ModelSpec, WhatIsLeftOutHasTheFamilysDefault) {
  const ModelSpec spec = parse(small_config());
  EXPECT_EQ(spec.name, "tiny");
  EXPECT_EQ(spec.embedding.width, 32);
  EXPECT_EQ(spec.residual, Residual::pre);
  EXPECT_TRUE(spec.head.norm && spec.attention.bias && spec.mlp.bias && spec.norm.affine && spec.head.tied);
  EXPECT_EQ(spec.mlp.activation, ActivationKind::relu);
  EXPECT_EQ(spec.eos_tokens, std::vector<std::int32_t>{2});
  EXPECT_EQ(spec.pad_token, 1);
}

TEST(ModelSpec, SwitchesChangeTheShape) {
  json config = small_config();
  config.update({{"enable_bias", false},
                 {"layer_norm_elementwise_affine", false},
                 {"tie_word_embeddings", false},
                 {"activation_function", "gelu"},
                 {"word_embed_proj_dim", 16},
                 {"eos_token_id", 7}});
  const ModelSpec spec = parse(config);
  EXPECT_FALSE(spec.attention.bias || spec.mlp.bias || spec.norm.affine || spec.head.tied);
  EXPECT_EQ(spec.mlp.activation, ActivationKind::gelu);
  EXPECT_EQ(spec.eos_tokens, std::vector<std::int32_t>{7});
  EXPECT_EQ(num_parameters(spec), 2U * (4 * 32 * 32 + 2 * 32 * 96) + 100 * 16 + 52 * 32 + 2 * 16 * 32 + 100 * 16);
  config["_remove_final_layer_norm"] = true;
  EXPECT_FALSE(parse(config).head.norm);
}

TEST(ModelSpec, NullCountsAsLeftOut) {
  json config = small_config();
  config["word_embed_proj_dim"] = nullptr;
  config["torch_dtype"] = nullptr;
  EXPECT_EQ(parse(config).embedding.width, 32);
  config["hidden_size"] = nullptr;
  expect_refused(config.dump(), {"'hidden_size' is missing"});
}

TEST(ModelSpec, DataTypeOldAndNewName) {
  json config = small_config();
  for (const auto& [text, dtype] : std::map<std::string, DType>{{"float32", DType::float32},
                                                                {"float16", DType::float16},
                                                                {"bfloat16", DType::bfloat16},
                                                                {"torch.float16", DType::float16}}) {
    config.erase("dtype");
    config["torch_dtype"] = text;
    EXPECT_EQ(parse(config).stored_dtype, dtype) << text;
    config["torch_dtype"] = "float32";
    config["dtype"] = text;  // the newer name wins
    EXPECT_EQ(parse(config).stored_dtype, dtype) << text;
  }
  config["dtype"] = "int8";
  expect_refused(config.dump(), {"int8", "float16"});
  config["dtype"] = 16;
  expect_refused(config.dump(), {"'dtype' is 16"});
}

TEST(ModelSpec, OtherArchitecturesAreRefusedByName) {
  json config = small_config();
  for (const char* type : {"llama", "gpt2", "gpt_neox", "OPT"}) {
    config["model_type"] = type;
    expect_refused(config.dump(), {"'" + std::string(type) + "'", "OPT"});
  }
  config.erase("model_type");
  expect_refused(config.dump(), {"(none)", "OPT"});
  config["model_type"] = 5;
  expect_refused(config.dump(), {"'model_type' is 5"});
}

TEST(ModelSpec, EveryNeededFieldIsMissedAndChecked) {
  for (const char* key : {"num_hidden_layers", "num_attention_heads", "hidden_size", "ffn_dim", "vocab_size",
                          "max_position_embeddings"}) {
    json config = small_config();
    config.erase(key);
    expect_refused(config.dump(), {"'" + std::string(key) + "' is missing"});
    for (const json& bad : {json("2"), json(2.5), json(true), json(0), json(-1), json(1e12), json(2'000'000'000'000),
                            json::array(), json::object()}) {
      config[key] = bad;
      expect_refused(config.dump(), {"'" + std::string(key) + "' is " + bad.dump()});
    }
  }
}

TEST(ModelSpec, OptionalFieldsAreCheckedToo) {
  const std::vector<std::pair<std::string, json>> cases{
      {"do_layer_norm_before", "yes"},         {"enable_bias", 1},
      {"tie_word_embeddings", "false"},        {"eos_token_id", -3},
      {"eos_token_id", json::array({2, "x"})}, {"word_embed_proj_dim", 0},
      {"activation_function", false}};
  for (const auto& [key, bad] : cases) {
    json config = small_config();
    config[key] = bad;
    expect_refused(config.dump(), {"'" + key + "' is " + bad.dump()});
  }
  json config = small_config();
  config["activation_function"] = "silu";
  expect_refused(config.dump(), {"silu"});
}

TEST(ModelSpec, HeadsMustDivideTheHiddenSize) {
  json config = small_config();
  config["num_attention_heads"] = 5;
  expect_refused(config.dump(), {"32", "5"});
}

TEST(ModelSpec, WhatIsNoJsonObjectIsRefused) {
  for (const char* text : {"", "[]", "null", "12", "\"opt\"", "{", "{\"model_type\": \"opt\",}", "\xff\xfe{}"})
    expect_refused(text, {"not a JSON object"});
}

TEST(ModelSpec, EveryTruncationIsAnErrorAndNeverACrash) {
  const std::string whole = small_config().dump();
  for (std::size_t length = 0; length < whole.size(); ++length) expect_refused(whole.substr(0, length), {});
}

TEST(ModelSpec, AMissingFolderSaysWhere) {
  const test::ScratchPlace place;
  try {
    read_model_spec((place / "nothing").string());
    FAIL();
  } catch (const UserError& error) {
    EXPECT_EQ(error.code(), ExitCode::model);
    EXPECT_NE(std::string(error.what()).find((place / "nothing").string()), std::string::npos) << error.what();
    EXPECT_NE(std::string(error.what()).find("No such file or directory"), std::string::npos) << error.what();
  }
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

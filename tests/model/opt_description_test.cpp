// What OPT's layers say they hold: names, shapes, where a checkpoint keeps them, what is shared.
#include <gtest/gtest.h>

#include <algorithm>
#include <filesystem>
#include <map>
#include <set>

#include "base/error.hpp"
#include "model/layer.hpp"
#include "model/read_spec.hpp"
#include "model/registry.hpp"

namespace flexgen::test {
namespace {

using Strings = std::vector<std::string>;

ModelSpec small() {
  ModelSpec spec;
  spec.family = "opt";
  spec.num_layers = 3;
  spec.hidden = 8;
  spec.embedding = {8, 2};
  spec.attention = AttentionSpec::of_heads(2, 8);
  spec.mlp.width = 24;
  spec.vocab = 50;
  spec.max_positions = 20;
  return spec;
}

std::vector<LayerDescription> whole(const ModelSpec& spec, bool separate = true) {
  return describe(make_layers(spec, {0, spec.num_layers, true, true}, separate));
}

const WeightSpec& weight(const LayerDescription& layer, const std::string& name) {
  for (const WeightSpec& candidate : layer.weights)
    if (candidate.name == name) return candidate;
  throw std::runtime_error(layer.name + " has no " + name);
}

Strings names(const LayerDescription& layer) {
  Strings all;
  for (const WeightSpec& candidate : layer.weights) all.push_back(candidate.name);
  return all;
}

// Every tensor once, a shared one counted once.
std::uint64_t num_elements(const std::vector<LayerDescription>& layers) {
  std::int64_t total = 0;
  std::set<std::string> shared;
  for (const LayerDescription& layer : layers)
    for (const WeightSpec& one : layer.weights)
      if (one.shared_as.empty() || shared.insert(one.shared_as).second) total += one.num_elements();
  return static_cast<std::uint64_t>(total);
}

// Counted from the sizes, matrix by matrix.
std::uint64_t count_by_hand(const ModelSpec& spec, bool bare) {
  const auto h = static_cast<std::uint64_t>(spec.hidden);
  const auto f = static_cast<std::uint64_t>(spec.mlp.width);
  const auto table = static_cast<std::uint64_t>(spec.vocab) * static_cast<std::uint64_t>(spec.embedding.width);
  const std::uint64_t vectors = bare ? 0 : 4 * h + f + h + 4 * h;  // biases, two LayerNorms
  std::uint64_t total = static_cast<std::uint64_t>(spec.num_layers) * (4 * h * h + 2 * h * f + vectors);
  total += static_cast<std::uint64_t>(spec.max_positions + 2) * h + (bare ? 2 : 1) * table;
  if (spec.has_projections()) total += 2 * h * static_cast<std::uint64_t>(spec.embedding.width);
  if (spec.head.norm && !bare) total += 2 * h;
  return total;
}

TEST(OptDescription, LayersInOrder) {
  Strings separate;
  for (const LayerDescription& layer : whole(small())) separate.push_back(layer.name);
  EXPECT_EQ(separate,
            (Strings{"embedding", "attention 0", "mlp 0", "attention 1", "mlp 1", "attention 2", "mlp 2", "head"}));
  Strings joined;
  for (const LayerDescription& layer : whole(small(), false)) joined.push_back(layer.name);
  EXPECT_EQ(joined, (Strings{"embedding", "block 0", "block 1", "block 2", "head"}));
}

TEST(OptDescription, KindsAndCaches) {
  for (const bool separate : {true, false})
    for (const LayerDescription& layer : whole(small(), separate)) {
      const bool attends = layer.name.starts_with("attention") || layer.name.starts_with("block");
      EXPECT_EQ(layer.has_cache(), attends) << layer.name;
      EXPECT_EQ(layer.decoder_layer < 0, layer.name == "embedding" || layer.name == "head") << layer.name;
    }
}

TEST(OptDescription, ASliceNamesItsOwnLayers) {
  const std::vector<LayerDescription> layers = describe(make_layers(small(), {1, 2, false, true}, true));
  ASSERT_EQ(layers.size(), 5U);
  EXPECT_EQ(layers[0].name, "attention 1");
  EXPECT_EQ(layers[0].decoder_layer, 1);
  EXPECT_EQ(layers[4].name, "head");
  EXPECT_EQ(weight(layers[0], "out.weight").sources[0].keys[0], "model.decoder.layers.1.self_attn.out_proj.weight");
}

TEST(OptDescription, ShapesOfOneLayer) {
  const std::vector<LayerDescription> layers = whole(small());
  EXPECT_EQ(names(layers[1]),
            (Strings{"qkv.weight", "qkv.bias", "out.weight", "out.bias", "norm.weight", "norm.bias"}));
  EXPECT_EQ(names(layers[2]),
            (Strings{"fc1.weight", "fc1.bias", "fc2.weight", "fc2.bias", "norm.weight", "norm.bias"}));
  const auto expect_shape = [](const WeightSpec& one, std::int64_t rows, std::int64_t cols) {
    EXPECT_EQ(one.rows, rows) << one.name;
    EXPECT_EQ(one.cols, cols) << one.name;
  };
  expect_shape(weight(layers[0], "tokens.weight"), 50, 8);
  expect_shape(weight(layers[0], "positions.weight"), 22, 8);
  expect_shape(weight(layers[1], "qkv.weight"), 24, 8);
  expect_shape(weight(layers[1], "qkv.bias"), 1, 24);
  expect_shape(weight(layers[1], "out.weight"), 8, 8);
  expect_shape(weight(layers[2], "fc1.weight"), 24, 8);
  expect_shape(weight(layers[2], "fc2.weight"), 8, 24);
  expect_shape(weight(layers[2], "norm.bias"), 1, 8);
  expect_shape(weight(layers[7], "tokens.weight"), 50, 8);
}

TEST(OptDescription, SourcesFillTheirMatrixAndMadeUpNormsLieAboutOne) {
  for (const bool separate : {true, false})
    for (const LayerDescription& layer : whole(small(), separate))
      for (const WeightSpec& one : layer.weights) {
        std::int64_t total = 0;
        for (const CheckpointKeys& source : one.sources) {
          EXPECT_FALSE(source.keys.empty());
          total += source.num_elements;
        }
        EXPECT_EQ(total, one.num_elements()) << layer.name << " " << one.name;
        EXPECT_EQ(one.random_center, one.name == "norm.weight" ? 1 : 0) << layer.name << " " << one.name;
      }
}

TEST(OptDescription, KeysOfBothPrefixes) {
  const std::vector<LayerDescription> layers = whole(small());
  const WeightSpec& qkv = weight(layers[3], "qkv.weight");
  ASSERT_EQ(qkv.sources.size(), 3U);
  EXPECT_EQ(qkv.sources[0].keys,
            (Strings{"model.decoder.layers.1.self_attn.q_proj.weight", "decoder.layers.1.self_attn.q_proj.weight"}));
  EXPECT_EQ(qkv.sources[1].keys[0], "model.decoder.layers.1.self_attn.k_proj.weight");
  EXPECT_EQ(qkv.sources[2].keys[0], "model.decoder.layers.1.self_attn.v_proj.weight");
  EXPECT_EQ(weight(layers[3], "norm.weight").sources[0].keys[0], "model.decoder.layers.1.self_attn_layer_norm.weight");
  EXPECT_EQ(weight(layers[4], "norm.weight").sources[0].keys[0], "model.decoder.layers.1.final_layer_norm.weight");
  EXPECT_EQ(weight(layers[7], "norm.bias").sources[0].keys[0], "model.decoder.final_layer_norm.bias");
  EXPECT_EQ(weight(layers[0], "positions.weight").sources[0].keys[0], "model.decoder.embed_positions.weight");
}

TEST(OptDescription, NoTensorOfACheckpointIsNamedTwice) {
  std::map<std::string, int> seen;
  for (const LayerDescription& layer : whole(small()))
    for (const WeightSpec& one : layer.weights) {
      if (!one.shared_as.empty() && layer.kind == LayerKind::head) continue;
      for (const CheckpointKeys& source : one.sources)
        for (const std::string& key : source.keys) EXPECT_EQ(++seen[key], 1) << key;
    }
}

TEST(OptDescription, TiedHeadIsTheTokenTable) {
  const std::vector<LayerDescription> layers = whole(small());
  EXPECT_EQ(weight(layers.front(), "tokens.weight").shared_as, weight(layers.back(), "tokens.weight").shared_as);
  EXPECT_FALSE(weight(layers.back(), "tokens.weight").shared_as.empty());
  const Strings keys = weight(layers.back(), "tokens.weight").sources[0].keys;
  EXPECT_EQ(keys.front(), "model.decoder.embed_tokens.weight");
  EXPECT_NE(std::find(keys.begin(), keys.end(), "lm_head.weight"), keys.end()) << "a checkpoint may keep only the head";

  ModelSpec untied = small();
  untied.head.tied = false;
  const std::vector<LayerDescription> apart = whole(untied);
  EXPECT_TRUE(weight(apart.front(), "tokens.weight").shared_as.empty());
  EXPECT_EQ(weight(apart.back(), "head.weight").sources[0].keys.front(), "lm_head.weight");
}

TEST(OptDescription, LeftOutPartsAreLeftOut) {
  ModelSpec spec = small();
  spec.attention.bias = spec.mlp.bias = spec.norm.affine = false;
  std::vector<LayerDescription> layers = whole(spec);
  EXPECT_EQ(names(layers[1]), (Strings{"qkv.weight", "out.weight"}));
  EXPECT_EQ(names(layers[2]), (Strings{"fc1.weight", "fc2.weight"}));
  EXPECT_EQ(names(layers[7]), (Strings{"tokens.weight"}));

  spec = small();
  spec.embedding.width = 4;
  spec.residual = Residual::post;
  spec.head.norm = false;  // as opt-350m
  layers = whole(spec);
  EXPECT_EQ(names(layers.front()), (Strings{"tokens.weight", "positions.weight", "project_in.weight"}));
  EXPECT_EQ(names(layers.back()), (Strings{"project_out.weight", "tokens.weight"}));
  EXPECT_EQ(weight(layers.front(), "tokens.weight").cols, 4);
  EXPECT_EQ(weight(layers.front(), "project_in.weight").rows, 8);
  EXPECT_EQ(weight(layers.back(), "project_out.weight").rows, 4);
}

TEST(OptDescription, HoldsAsManyParametersAsTheConfigSays) {
  const std::filesystem::path configs = std::filesystem::path(FLEXGEN_SOURCE_DIR) / "configs";
  for (const char* name : {"models/opt-125m", "models/opt-350m", "models/opt-6.7b", "models/opt-175b", "demo-model"}) {
    ModelSpec spec = read_model_spec((configs / name).string());
    for (const bool separate : {true, false})
      EXPECT_EQ(num_elements(whole(spec, separate)), count_by_hand(spec, false)) << name;
    EXPECT_EQ(num_parameters(spec), count_by_hand(spec, false)) << name;
    spec.attention.bias = spec.mlp.bias = spec.norm.affine = spec.head.tied = false;
    EXPECT_EQ(num_elements(whole(spec)), count_by_hand(spec, true)) << name << ", bare";
    EXPECT_EQ(num_parameters(spec), count_by_hand(spec, true)) << name << ", bare";
  }
}

TEST(Registry, AnUnknownFamilyIsRefusedByName) {
  ModelSpec spec = small();
  spec.family = "llama";
  try {
    make_layers(spec, {0, 1, true, true}, true);
    FAIL();
  } catch (const UserError& error) {
    EXPECT_EQ(error.code(), ExitCode::model);
    EXPECT_NE(std::string(error.what()).find("llama"), std::string::npos);
  }
  EXPECT_EQ(find_family("opt").name, "opt");
}

}  // namespace
}  // namespace flexgen::test

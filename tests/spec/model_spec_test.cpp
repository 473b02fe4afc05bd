#include "spec/model_spec.hpp"

#include <gtest/gtest.h>

#include <array>
#include <set>

#include "base/error.hpp"

namespace flexgen::test {
namespace {

TEST(Fingerprint, DiffersWithEveryFieldThatChangesTheModel) {
  ModelSpec spec;
  spec.family = "opt";
  spec.name = "tiny";
  spec.num_layers = 2;
  spec.hidden = 32;
  spec.vocab = 100;
  spec.max_positions = 50;
  spec.embedding = {32, 2};
  spec.attention = AttentionSpec::of_heads(4, 32);
  spec.mlp.width = 96;
  ModelSpec renamed = spec;
  renamed.name = "elsewhere";
  EXPECT_EQ(fingerprint(renamed), fingerprint(spec)) << "folders may differ between ranks";
  const auto changes =
      std::to_array<void (*)(ModelSpec&)>({[](ModelSpec& s) { ++s.num_layers; },
                                           [](ModelSpec& s) { s.hidden = 64; },
                                           [](ModelSpec& s) { ++s.vocab; },
                                           [](ModelSpec& s) { ++s.max_positions; },
                                           [](ModelSpec& s) { ++s.embedding.width; },
                                           [](ModelSpec& s) { ++s.embedding.first_position; },
                                           [](ModelSpec& s) { s.attention.heads = 8; },
                                           [](ModelSpec& s) { s.attention.kv_heads = 1; },
                                           [](ModelSpec& s) { s.attention.head_size = 16; },
                                           [](ModelSpec& s) { s.attention.scale = 1; },
                                           [](ModelSpec& s) { s.attention.bias = false; },
                                           [](ModelSpec& s) { ++s.mlp.width; },
                                           [](ModelSpec& s) { s.mlp.activation = ActivationKind::gelu; },
                                           [](ModelSpec& s) { s.mlp.bias = false; },
                                           [](ModelSpec& s) { s.norm.epsilon = 1e-6F; },
                                           [](ModelSpec& s) { s.norm.affine = false; },
                                           [](ModelSpec& s) { s.residual = Residual::post; },
                                           [](ModelSpec& s) { s.residual = Residual::parallel; },
                                           [](ModelSpec& s) { s.head.norm = false; },
                                           [](ModelSpec& s) { s.head.tied = false; },
                                           [](ModelSpec& s) { ++s.bos_token; },
                                           [](ModelSpec& s) {
                                             s.eos_tokens = {2, 3};
                                           },
                                           [](ModelSpec& s) { ++s.pad_token; }});
  std::set<std::string> seen{fingerprint(spec)};
  for (const auto change : changes) {
    ModelSpec other = spec;
    change(other);
    EXPECT_TRUE(seen.insert(fingerprint(other)).second) << fingerprint(other);
  }
}

TEST(DTypes, NamesAndSizes) {
  for (const DType dtype : {DType::float32, DType::float16, DType::bfloat16})
    EXPECT_EQ(parse_dtype(dtype_name(dtype)), dtype);
  EXPECT_EQ(parse_dtype("fp16"), DType::float16);
  EXPECT_EQ(parse_dtype("bf16"), DType::bfloat16);
  EXPECT_EQ(parse_dtype("torch.float32"), DType::float32);
  EXPECT_EQ(element_bytes(DType::float32), 4U);
  EXPECT_EQ(element_bytes(DType::bfloat16), 2U);
  for (const char* text : {"", "int4", "Float16", "torch."}) EXPECT_THROW(parse_dtype(text), UserError) << text;
}

}  // namespace
}  // namespace flexgen::test

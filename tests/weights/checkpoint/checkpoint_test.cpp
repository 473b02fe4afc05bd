// Real files: written by safetensors and torch.save (tests/data/make_checkpoints.py), read back value by value.
#include "weights/checkpoint/checkpoint.hpp"

#include <gtest/gtest.h>

#include <bit>
#include <cmath>

#include "tests/support/scratch_place.hpp"
#include "tests/weights/checkpoint/checkpoint_builders.hpp"
#include "tests/weights/checkpoint/expect_refused.hpp"

namespace flexgen::test {
namespace {

using checkpoint::expect_refused;
using test::ScratchPlace;

std::filesystem::path data_folder(const std::string& name) {
  return std::filesystem::path(FLEXGEN_SOURCE_DIR) / "tests/data/checkpoints" / name;
}

float widen(std::uint16_t bits, DType dtype) {
  if (dtype == DType::bfloat16) return std::bit_cast<float>(std::uint32_t{bits} << 16);
  const int exponent = (bits >> 10) & 31;
  const int mantissa = bits & 1023;
  const float magnitude = exponent == 0 ? std::ldexp(static_cast<float>(mantissa), -24)
                                        : std::ldexp(static_cast<float>(mantissa + 1024), exponent - 25);
  return (bits & 0x8000) != 0 ? -magnitude : magnitude;
}

std::vector<float> values(const Checkpoint& model, const CheckpointTensor& tensor) {
  const std::uint64_t step = element_bytes(tensor.dtype);
  std::vector<float> result;
  for (std::uint64_t offset = 0; offset < tensor.size_bytes; offset += step) {
    std::array<std::byte, 4> bytes{};
    model.read(tensor, offset, std::span(bytes).first(step));
    const auto bits = checkpoint::load_little_endian<std::uint32_t>(bytes);
    result.push_back(step == 4 ? std::bit_cast<float>(bits) : widen(static_cast<std::uint16_t>(bits), tensor.dtype));
  }
  return result;
}

/// The tensor exists, has this type and shape, and counts up from `first`.
void expect_counting(const Checkpoint& model, const std::string& key, DType dtype,
                     const std::vector<std::int64_t>& shape, float first) {
  SCOPED_TRACE(key);
  const CheckpointTensor& tensor = model.require(key);
  EXPECT_EQ(tensor.dtype, dtype);
  EXPECT_EQ(tensor.shape, shape);
  std::vector<float> expected(*checkpoint::num_elements(shape));
  for (std::size_t i = 0; i < expected.size(); ++i) expected[i] = first + static_cast<float>(i);
  EXPECT_EQ(values(model, tensor), expected);
}

void expect_mixed(const std::string& folder) {
  SCOPED_TRACE(folder);
  const Checkpoint model = Checkpoint::open(data_folder(folder));
  EXPECT_EQ(model.tensors().size(), 5u);
  EXPECT_EQ(model.files().size(), 1u);
  expect_counting(model, "decoder.weight", DType::float32, {3, 5}, 1);
  expect_counting(model, "decoder.half", DType::float16, {2, 2, 3}, 20);
  expect_counting(model, "decoder.brain", DType::bfloat16, {7}, 40);
  expect_counting(model, "decoder.scalar", DType::float32, {}, 60);
  expect_counting(model, "decoder.empty", DType::float16, {0, 4}, 0);
  ASSERT_EQ(model.unsupported().size(), 2u);
  EXPECT_EQ(model.unsupported()[0].key, "decoder.flag");
  EXPECT_EQ(model.find("decoder.positions"), nullptr);
}

TEST(Checkpoint, ReadsEveryElementType) {
  expect_mixed("safetensors_single");
  expect_mixed("bin_mixed");
}

TEST(Checkpoint, RequireNamesTheElementTypeOrTheAbsence) {
  const Checkpoint torch = Checkpoint::open(data_folder("bin_mixed"));
  expect_refused([&] { torch.require("decoder.positions"); }, {"pytorch_model.bin", "'decoder.positions'", "int64"});
  expect_refused([&] { torch.require("decoder.gone"); }, {"'decoder.gone'", "bin_mixed", "missing"});
  const Checkpoint safe = Checkpoint::open(data_folder("safetensors_single"));
  expect_refused([&] { safe.require("decoder.flag"); }, {"model.safetensors", "'decoder.flag'", "BOOL"});
  const Checkpoint unsigned_ids = Checkpoint::open(data_folder("bin_unsigned"));
  expect_refused([&] { unsigned_ids.require("ids"); }, {"'ids'", "uint16"});
  expect_counting(unsigned_ids, "weight", DType::float16, {4}, 3);
}

void expect_sharded(const std::string& folder) {
  SCOPED_TRACE(folder);
  const Checkpoint model = Checkpoint::open(data_folder(folder));
  EXPECT_EQ(model.files().size(), 2u);
  ASSERT_EQ(model.tensors().size(), 3u);
  EXPECT_EQ(model.tensors()[0].key, "a.bias");
  EXPECT_EQ(model.tensors()[2].key, "b.weight");
  EXPECT_EQ(model.require("a.bias").file, 0u);
  EXPECT_EQ(model.require("b.weight").file, 1u);
  expect_counting(model, "a.weight", DType::float16, {4, 3}, 1);
  expect_counting(model, "a.bias", DType::float16, {3}, 30);
  expect_counting(model, "b.weight", DType::float16, {2, 6}, 50);
}

TEST(Checkpoint, ReadsShards) {
  expect_sharded("safetensors_sharded");
  expect_sharded("bin_sharded");
}

TEST(Checkpoint, ReadsStateDictsOfModules) {
  for (const char* folder : {"bin_state_dict", "bin_protocol4"}) {
    const Checkpoint model = Checkpoint::open(data_folder(folder));
    expect_counting(model, "embed.weight", DType::float32, {6, 4}, 1);
    expect_counting(model, "norm.weight", DType::float32, {4}, 40);
    expect_counting(model, "norm.bias", DType::float32, {4}, 50);
    EXPECT_EQ(model.require("head.weight").offset_bytes, model.require("embed.weight").offset_bytes);
    EXPECT_EQ(model.unsupported().size(), 1u);
  }
}

TEST(Checkpoint, ReadsParametersNestedDictsAndViews) {
  const Checkpoint parameters = Checkpoint::open(data_folder("bin_parameters"));
  expect_counting(parameters, "embed.weight", DType::float32, {6, 4}, 1);
  EXPECT_EQ(parameters.tensors().size(), 3u);

  const Checkpoint nested = Checkpoint::open(data_folder("bin_nested"));
  expect_counting(nested, "a.bias", DType::float16, {3}, 30);
  EXPECT_EQ(nested.tensors().size(), 2u);

  const Checkpoint views = Checkpoint::open(data_folder("bin_views"));
  expect_counting(views, "whole", DType::float16, {5, 4}, 0);
  expect_counting(views, "rows", DType::float16, {2, 4}, 8);
  expect_counting(views, "row", DType::float16, {4}, 12);
  expect_counting(views, "column_of_one", DType::float16, {1, 2}, 17);
}

TEST(Checkpoint, RefusesWhatCannotOrMustNotBeRead) {
  const auto open = [](const char* folder) { return [folder] { Checkpoint::open(data_folder(folder)); }; };
  expect_refused(open("bin_transposed"), {"bin_transposed/pytorch_model.bin", "'turned'", "not contiguous"});
  expect_refused(open("bin_hostile"), {"bin_hostile/pytorch_model.bin", "'system'", "'posix'"});
  expect_refused(open("bin_compressed"), {"bin_compressed/pytorch_model.bin", "is compressed"});
  expect_refused(open("bin_big_endian"), {"'big'"});
  expect_refused(open("bin_legacy"), {"before PyTorch 1.6", "torch.save"});
  expect_refused(open("no_such_folder"), {"no_such_folder", "not a folder"});
}

TEST(Checkpoint, ReadsTheDemoModel) {
  const Checkpoint model = Checkpoint::open(std::filesystem::path(FLEXGEN_SOURCE_DIR) / "configs/demo-model");
  EXPECT_EQ(model.tensors().size(), 132u);
  EXPECT_EQ(model.require("model.decoder.embed_tokens.weight").shape, (std::vector<std::int64_t>{4096, 256}));
  // Values as PyTorch prints them.
  const std::vector<float> scale = values(model, model.require("model.decoder.final_layer_norm.weight"));
  ASSERT_EQ(scale.size(), 256u);
  EXPECT_EQ(scale.front(), 1.8193359375f);
  EXPECT_EQ(scale.back(), 1.884765625f);
  const std::vector<float> embedding = values(model, model.require("model.decoder.embed_tokens.weight"));
  EXPECT_EQ(embedding.at(256), 0.053680419921875f);
  EXPECT_EQ(embedding.back(), 0.06011962890625f);
}

TEST(Checkpoint, PrefersSafetensorsThenSingleFiles) {
  const ScratchPlace folder;
  expect_refused([&] { Checkpoint::open(folder.path()); }, {"no checkpoint in", "neither model.safetensors"});
  folder.write("pytorch_model.bin.index.json", "broken");
  expect_refused([&] { Checkpoint::open(folder.path()); }, {"pytorch_model.bin.index.json"});
  folder.write("pytorch_model.bin", checkpoint::torch_file(checkpoint::pickle_state_dict({})));
  EXPECT_EQ(Checkpoint::open(folder.path()).files()[0].filename(), "pytorch_model.bin");
  folder.write("model.safetensors",
               checkpoint::safetensors_file(R"({"s":{"dtype":"F16","shape":[1],"data_offsets":[0,2]}})", 2));
  EXPECT_EQ(Checkpoint::open(folder.path()).tensors()[0].key, "s");
}

TEST(Checkpoint, ReadGivesAnySliceAndSeesAFileThatShrank) {
  const ScratchPlace folder;
  folder.write("pytorch_model.bin", checkpoint::torch_file(checkpoint::pickle_state_dict({})));
  const Checkpoint model = Checkpoint::open(folder.path());
  const CheckpointTensor& tensor = model.require("weight");
  std::string slice(5, '\0');
  model.read(tensor, 19, std::as_writable_bytes(std::span(slice)));
  EXPECT_EQ(slice, "jklmn");
  model.read(tensor, 24, {});
  EXPECT_THROW(model.read(tensor, 20, std::as_writable_bytes(std::span(slice))), InternalError);
  EXPECT_THROW(model.read(tensor, 25, {}), InternalError);

  std::filesystem::resize_file(model.files()[0], tensor.offset_bytes + 20);
  expect_refused([&] { model.read(tensor, 19, std::as_writable_bytes(std::span(slice))); },
                 {"pytorch_model.bin", "'weight'", "cut short"});
}

TEST(Checkpoint, RefusesFilesThatAreNoWeights) {
  const ScratchPlace folder;
  folder.write("model.safetensors", "version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 1\n");
  expect_refused([&] { Checkpoint::open(folder.path()); }, {"Git LFS pointer", "git lfs pull"});
  folder.write("model.safetensors", checkpoint::safetensors_file("{}", 0));
  expect_refused([&] { Checkpoint::open(folder.path()); }, {"no floating-point tensors"});
  folder.write("model.safetensors", "");
  expect_refused([&] { Checkpoint::open(folder.path()); }, {"model.safetensors", "header length"});
  std::filesystem::remove(folder.path() / "model.safetensors");
  std::filesystem::create_directory(folder.path() / "model.safetensors");
  expect_refused([&] { Checkpoint::open(folder.path()); }, {"not a regular file"});
  std::filesystem::remove(folder.path() / "model.safetensors");
  std::filesystem::create_symlink("nowhere", folder.path() / "model.safetensors");
  expect_refused([&] { Checkpoint::open(folder.path()); }, {"model.safetensors", "No such file"});
}

class ShardedCheckpoint : public ::testing::Test {
 protected:
  void SetUp() override {
    write_shard("1.safetensors", "a");
    write_shard("2.safetensors", "b");
  }
  void write_shard(const std::string& name, const std::string& key) {
    folder_.write(
        name, checkpoint::safetensors_file("{\"" + key + R"(":{"dtype":"F16","shape":[1],"data_offsets":[0,2]}})", 2));
  }
  Checkpoint open(const std::string& map) {
    folder_.write("model.safetensors.index.json", "{\"weight_map\":" + map + "}");
    return Checkpoint::open(folder_.path());
  }
  ScratchPlace folder_;
};

TEST_F(ShardedCheckpoint, OpensWhatTheIndexSays) {
  EXPECT_EQ(open(R"({"a":"1.safetensors","b":"2.safetensors"})").tensors().size(), 2u);
}

TEST_F(ShardedCheckpoint, RefusesAnIndexThatDoesNotFit) {
  const auto expect_map_refused = [&](const std::string& map, std::initializer_list<std::string_view> pieces) {
    SCOPED_TRACE(map);
    expect_refused([&] { open(map); }, pieces);
  };
  expect_map_refused(R"({"a":"1.safetensors","b":"3.safetensors"})", {"3.safetensors", "No such file"});
  expect_map_refused(R"({"a":"2.safetensors","b":"2.safetensors"})", {"2.safetensors", "'a'", "index"});
  expect_map_refused(R"({"a":"1.safetensors","b":"1.safetensors"})", {"1.safetensors", "'b'", "index"});
  expect_map_refused(R"({"b":"1.safetensors","a":"2.safetensors"})", {"index"});
  expect_map_refused(R"({"a":"../1.safetensors"})", {"out of the model's folder"});
  write_shard("2.safetensors", "a");
  expect_map_refused(R"({"a":"1.safetensors","b":"2.safetensors"})", {"'a'", "1.safetensors", "2.safetensors"});
}

TEST_F(ShardedCheckpoint, AnIndexMayNameATiedHeadThatIsNotStored) {
  const char* map = R"({"a":"1.safetensors","b":"2.safetensors","lm_head.weight":"2.safetensors"})";
  expect_refused([&] { open(map); }, {"2.safetensors", "'lm_head.weight'", "index"});
  write_shard("1.safetensors", "model.decoder.embed_tokens.weight");
  const Checkpoint model = open(
      R"({"model.decoder.embed_tokens.weight":"1.safetensors","b":"2.safetensors","lm_head.weight":"2.safetensors"})");
  EXPECT_EQ(model.tensors().size(), 2u);
  EXPECT_EQ(model.find("lm_head.weight"), nullptr);
}

TEST_F(ShardedCheckpoint, KeysLoseWhatWrappersPutBefore) {
  write_shard("1.safetensors", "base_model.model.decoder.a");
  write_shard("2.safetensors", "module._orig_mod.b");
  const Checkpoint model =
      open(R"({"base_model.model.decoder.a":"1.safetensors","module._orig_mod.b":"2.safetensors"})");
  ASSERT_EQ(model.tensors().size(), 2u);
  EXPECT_EQ(model.tensors()[0].key, "b");
  EXPECT_EQ(model.tensors()[1].key, "decoder.a");
}

TEST_F(ShardedCheckpoint, AnAdapterAroundTheWeightsIsNamed) {
  const Checkpoint plain = open(R"({"a":"1.safetensors","b":"2.safetensors"})");
  expect_refused([&] { plain.require("q.weight"); }, {"'q.weight'", "download is complete"});
  write_shard("1.safetensors", "q.base_layer.weight");
  const Checkpoint model = open(R"({"q.base_layer.weight":"1.safetensors","b":"2.safetensors"})");
  expect_refused([&] { model.require("q.weight"); }, {"'q.weight'", "merge_and_unload"});
}

TEST_F(ShardedCheckpoint, AWrappedKeyBesideTheBareOneStays) {
  write_shard("1.safetensors", "module.a");
  write_shard("2.safetensors", "a");
  const Checkpoint model = open(R"({"module.a":"1.safetensors","a":"2.safetensors"})");
  EXPECT_EQ(model.require("a").file, 1u);
  EXPECT_EQ(model.require("module.a").file, 0u);
}

TEST(Checkpoint, Float64IsReadAsItIs) {
  const ScratchPlace folder;
  folder.write("model.safetensors",
               checkpoint::safetensors_file(R"({"s":{"dtype":"F64","shape":[3],"data_offsets":[0,24]}})", 24));
  const Checkpoint model = Checkpoint::open(folder.path());
  EXPECT_EQ(model.require("s").dtype, DType::float64);
  EXPECT_EQ(model.require("s").size_bytes, 24u);
}

}  // namespace
}  // namespace flexgen::test

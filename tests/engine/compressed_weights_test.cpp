// Weights that are compressed on their way to their homes, and folders that keep them so.
#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <fstream>

#include "base/error.hpp"
#include "engine/compressed_checkpoint.hpp"
#include "engine/weight_compressor.hpp"
#include "model/layer.hpp"
#include "ops/quantize.hpp"
#include "policy/weight_layout.hpp"
#include "tests/support/scratch_place.hpp"
#include "tests/support/tiny_model.hpp"

namespace flexgen::test {
namespace {

// Random values as a checkpoint has them: nothing of it is compressed.
class PlainSource final : public WeightSource {
 public:
  void require(std::span<const LayerDescription>) const override {}
  void produce(std::span<const WeightPiece> pieces, DType dtype) override { random_->produce(pieces, dtype); }
  bool in_place(const WeightSpec&, std::int64_t, std::int64_t, DType, std::vector<FileExtent>&) const override {
    return false;
  }

 private:
  std::unique_ptr<WeightSource> random_ = make_random_source();
};

std::vector<float> plain_values(const WeightSpec& weight) {
  PlainSource source;
  std::vector<float> values(static_cast<std::size_t>(weight.num_elements()));
  const WeightPiece piece{&weight, 0, weight.num_elements(), reinterpret_cast<std::byte*>(values.data())};
  source.produce({&piece, 1}, DType::float32);
  return values;
}

std::vector<float> restored(const WeightSpec& weight, const QuantFormat& format, std::vector<std::byte>& stored) {
  std::vector<float> values(static_cast<std::size_t>(weight.num_elements()));
  dequantize_rows_reference(
      contiguous_view(stored.data(), weight.rows, weight.cols, DType::float32, format),
      contiguous_view(reinterpret_cast<std::byte*>(values.data()), weight.rows, weight.cols, DType::float32));
  return values;
}

class CompressedWeights : public ::testing::Test {
 protected:
  const ModelSpec model_ = tiny_model();
  const std::vector<LayerDescription> layers_ = describe(make_layers(model_, {0, model_.num_layers, true, true}, true));
  const LayerDescription& attention_ = layers_[1];
  const WeightSpec& qkv_ = attention_.weights[0];
  const QuantFormat format_{4, 32};

  std::vector<std::byte> whole(WeightSource& source) {
    WeightCompressor compressor(source);
    std::vector<std::byte> bytes(stored_bytes(qkv_, DType::float32, format_));
    compressor.produce(attention_, 0, format_, 0, bytes.size(), bytes.data());
    return bytes;
  }
};

TEST_F(CompressedWeights, AnyRangeOfBytesIsPartOfTheWhole) {
  PlainSource source;
  const std::vector<std::byte> bytes = whole(source);
  WeightCompressor compressor(source);
  for (const auto& [begin, end] :
       {std::pair<std::size_t, std::size_t>{0, 1}, {5, 700}, {bytes.size() - 3, bytes.size()}}) {
    std::vector<std::byte> part(end - begin);
    compressor.produce(attention_, 0, format_, begin, end, part.data());
    EXPECT_EQ(std::memcmp(part.data(), bytes.data() + begin, part.size()), 0) << begin << " .. " << end;
  }
}

TEST_F(CompressedWeights, TheBiasMakesUpForWhatRoundingAddsOnAverage) {
  PlainSource source;
  ASSERT_EQ(qkv_.mean_input, 5);
  WeightCompressor compressor(source);
  std::vector<std::byte> bytes(stored_bytes(qkv_, DType::float32, format_));
  compressor.produce(attention_, 0, format_, 0, bytes.size(), bytes.data());
  std::vector<float> bias = plain_values(attention_.weights[1]);
  const std::vector<float> before = bias;
  // In two parts, as tiers may cut it.
  auto* raw = reinterpret_cast<std::byte*>(bias.data());
  compressor.correct_bias(attention_, 1, 0, 7, raw, DType::float32);
  compressor.correct_bias(attention_, 1, 7, qkv_.rows - 7, raw + 7 * sizeof(float), DType::float32);

  const std::vector<float> exact = plain_values(qkv_), rounded = restored(qkv_, format_, bytes);
  const std::vector<float> mean = plain_values(attention_.weights[5]);
  for (std::int64_t r = 0; r < qkv_.rows; ++r) {
    double lost = 0;
    for (std::int64_t c = 0; c < qkv_.cols; ++c) {
      const auto at = static_cast<std::size_t>(r * qkv_.cols + c);
      lost += (static_cast<double>(exact[at]) - rounded[at]) * mean[static_cast<std::size_t>(c)];
    }
    const auto row = static_cast<std::size_t>(r);
    EXPECT_NEAR(bias[row] - before[row], lost, 1e-6);
  }
}

TEST_F(CompressedWeights, OtherBiasesStayAsTheyAre) {
  PlainSource source;
  WeightCompressor compressor(source);
  std::vector<std::byte> bytes(stored_bytes(attention_.weights[2], DType::float32, format_));
  compressor.produce(attention_, 2, format_, 0, bytes.size(), bytes.data());  // the output projection
  std::vector<float> bias = plain_values(attention_.weights[3]);
  const std::vector<float> before = bias;
  compressor.correct_bias(attention_, 3, 0, model_.hidden, reinterpret_cast<std::byte*>(bias.data()), DType::float32);
  EXPECT_EQ(bias, before);
}

// Writes a folder as --save-compressed does, with as much of a config.json as an index needs.
ShardMap save(const std::vector<LayerDescription>& layers, const QuantFormat& format, const std::filesystem::path& to) {
  PlainSource source;
  const ShardMap shards = write_compressed_layers(layers, format, source, to);
  std::ofstream index(to / "model.safetensors.index.json");
  index << R"({"weight_map": {)";
  const char* comma = "";
  for (const auto& [name, file] : shards) {
    index << comma << '"' << name << R"(": ")" << file << '"';
    comma = ", ";
  }
  index << "}}";
  return shards;
}

TEST_F(CompressedWeights, AFolderGivesBackWhatWasWritten) {
  const ScratchPlace place;
  const ShardMap shards = save(layers_, format_, place.path());
  EXPECT_EQ(shards.size(), 2U + 6U * 4U + 6U * 4U + 2U);  // the tied table once
  const auto source = make_compressed_source(Checkpoint::open(place.path()), format_);
  source->require(layers_);
  PlainSource plain;
  EXPECT_EQ(whole(*source), whole(plain));
  const WeightSpec& norm = attention_.weights[4];
  std::vector<float> values(static_cast<std::size_t>(norm.num_elements()));
  const WeightPiece piece{&norm, 0, norm.num_elements(), reinterpret_cast<std::byte*>(values.data())};
  source->produce({&piece, 1}, DType::float32);
  EXPECT_EQ(values, plain_values(norm));
}

TEST_F(CompressedWeights, AFolderOfAnotherFormatIsRefused) {
  const ScratchPlace place;
  save(layers_, format_, place.path());
  const auto source = make_compressed_source(Checkpoint::open(place.path()), {8, 32});
  EXPECT_THROW(source->require(layers_), UserError);
}

}  // namespace
}  // namespace flexgen::test

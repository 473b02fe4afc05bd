// Weights that are compressed on their way to their homes, and folders that keep them so.
#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <fstream>

#include "base/error.hpp"
#include "model/layer.hpp"
#include "ops/quantize.hpp"
#include "tests/support/faulty_weight_source.hpp"
#include "tests/support/scratch_place.hpp"
#include "tests/support/tiny_model.hpp"
#include "weights/compressed_checkpoint.hpp"
#include "weights/weight_image.hpp"

namespace flexgen::test {
namespace {

std::vector<float> plain_values(const WeightSource& source, const WeightSpec& weight) {
  std::vector<float> values(static_cast<std::size_t>(weight.num_elements()));
  const WeightPiece piece{&weight, 0, weight.num_elements(), reinterpret_cast<std::byte*>(values.data())};
  source.make_reader()->produce({&piece, 1}, DType::float32);
  return values;
}
std::vector<float> plain_values(const WeightSpec& weight) { return plain_values(PlainWeightSource(), weight); }

// Parts into an image in memory.
class MemorySink final : public PartSink {
 public:
  explicit MemorySink(std::vector<std::byte>& image) : image_(image) {}
  std::byte* memory(const ImagePart& part) override { return image_.data() + part.begin; }
  void done(const ImagePart&, std::byte*) override {}

 private:
  std::vector<std::byte>& image_;
};

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

  // Weights `first` .. `last` of the layer, one after another.
  WeightImage image_of(std::size_t first, std::size_t last) const {
    WeightImage image{&attention_, DType::float32, {}};
    std::uint64_t at = 0;
    for (std::size_t w = first; w <= last; ++w) {
      const WeightSpec& weight = attention_.weights[w];
      const QuantFormat stored = stored_format(weight.role, format_);
      image.weights.push_back({w, stored, at, stored_bytes(weight, DType::float32, stored)});
      at += image.weights.back().size_bytes;
    }
    return image;
  }

  std::vector<std::byte> made(const WeightSource& source, const WeightImage& image, const ImageThreads& threads = {}) {
    std::vector<std::byte> bytes(image.weights.back().offset_bytes + image.weights.back().size_bytes);
    std::vector<ImagePart> parts;
    append_parts(parts, 0, image, 0, bytes.size(), threads);
    make_parts(source, {&image, 1}, parts, threads, [&] { return std::make_unique<MemorySink>(bytes); });
    return bytes;
  }
};

// One thread, one part after another, is the reference; many threads and small parts give its bits.
TEST_F(CompressedWeights, BytesDependNeitherOnThreadsNorOnParts) {
  const PlainWeightSource source;
  const WeightImage image = image_of(0, attention_.weights.size() - 1);
  const std::vector<std::byte> serial = made(source, image, {1, 1ULL << 30});
  for (const ImageThreads& threads : {ImageThreads{1, 8}, {4, 64}, {8, 700}, {3, 100, 4096}})
    EXPECT_EQ(made(source, image, threads), serial) << threads.count << " threads, parts of " << threads.part_bytes;
}

TEST_F(CompressedWeights, TheBiasMakesUpForWhatRoundingAddsOnAverage) {
  ASSERT_EQ(qkv_.mean_input, 5);
  const WeightImage image = image_of(0, 1);
  std::vector<std::byte> bytes = made(PlainWeightSource(), image, {4, 128});  // the bias, too, is cut
  std::vector<float> bias(static_cast<std::size_t>(qkv_.rows));
  std::memcpy(bias.data(), bytes.data() + image.weights[1].offset_bytes, bias.size() * sizeof(float));
  const std::vector<float> before = plain_values(attention_.weights[1]);

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
  const WeightImage image = image_of(2, 3);  // the output projection
  const std::vector<std::byte> bytes = made(PlainWeightSource(), image);
  std::vector<float> bias(static_cast<std::size_t>(model_.hidden));
  std::memcpy(bias.data(), bytes.data() + image.weights[1].offset_bytes, bias.size() * sizeof(float));
  EXPECT_EQ(bias, plain_values(attention_.weights[3]));
}

// The thread that compresses the last rows of a matrix fails: whoever waits for them hears of it.
TEST_F(CompressedWeights, AFailureReachesThoseWhoWaitForCorrections) {
  const WeightImage image = image_of(0, attention_.weights.size() - 1);
  for (const int call : {0, 3, 9}) {
    const FaultyWeightSource faulty(std::make_shared<PlainWeightSource>(), call);
    EXPECT_THROW(made(faulty, image, {6, 64}), UserError) << call;
  }
}

// Writes a folder as --save-compressed does, with as much of a config.json as an index needs.
ShardMap save(const std::vector<LayerDescription>& layers, const QuantFormat& format, const std::filesystem::path& to,
              const ImageThreads& threads = {}) {
  const ShardMap shards = write_compressed_layers(layers, format, PlainWeightSource(), to, threads);
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

std::string content(const std::filesystem::path& file) {
  std::ifstream stream(file, std::ios::binary);
  return {std::istreambuf_iterator<char>(stream), {}};
}

TEST_F(CompressedWeights, AFolderGivesBackWhatWasWritten) {
  const ScratchPlace place;
  const ShardMap shards = save(layers_, format_, place.path());
  EXPECT_EQ(shards.size(), 2U + 6U * 4U + 6U * 4U + 2U);  // the tied table once
  const auto source = make_compressed_source(Checkpoint::open(place.path()), format_);
  source->require(layers_);
  const WeightImage image = image_of(0, attention_.weights.size() - 1);
  EXPECT_EQ(made(*source, image, {3, 256}), made(PlainWeightSource(), image));
  const WeightSpec& norm = attention_.weights[4];
  EXPECT_EQ(plain_values(*source, norm), plain_values(norm));
}

TEST_F(CompressedWeights, AFolderWrittenByManyThreadsIsThatOfOne) {
  const ScratchPlace one, many;
  save(layers_, format_, one.path(), {1, 1ULL << 30});
  save(layers_, format_, many.path(), {8, 512});
  int num_files = 0;
  for (const auto& entry : std::filesystem::directory_iterator(one.path())) {
    ++num_files;
    EXPECT_EQ(content(entry.path()), content(many / entry.path().filename().string())) << entry.path();
  }
  EXPECT_EQ(num_files, 11);
}

TEST_F(CompressedWeights, AFolderOfAnotherFormatIsRefused) {
  const ScratchPlace place;
  save(layers_, format_, place.path());
  const auto source = make_compressed_source(Checkpoint::open(place.path()), {8, 32});
  EXPECT_THROW(source->require(layers_), UserError);
}

}  // namespace
}  // namespace flexgen::test

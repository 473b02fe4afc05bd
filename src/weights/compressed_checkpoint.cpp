#include "weights/compressed_checkpoint.hpp"

#include <fcntl.h>
#include <fmt/core.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <nlohmann/json.hpp>

#include "base/bytes.hpp"
#include "base/error.hpp"
#include "ops/elementwise.hpp"

namespace flexgen {
namespace {

const std::string& tensor_name(const WeightSpec& weight) { return weight.sources.front().keys.front(); }

// One layer's file, written at any place by any thread.
class ShardFile {
 public:
  ShardFile(const std::filesystem::path& path, const std::string& header) : header_bytes_(header.size()) {
    const int fd = ::open(path.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
    if (fd < 0) refuse(path, errno);
    file_ = FileHandle(fd, path, false, 0);
    write_at(0, reinterpret_cast<const std::byte*>(header.data()), header.size());
  }

  void write_data(std::uint64_t at, const std::byte* data, std::uint64_t bytes) const {
    write_at(header_bytes_ + at, data, bytes);
  }
  /// A full disk may come to light only here.
  void finish() const {
    if (::fsync(file_.fd()) != 0 && errno != EINVAL && errno != ENOTSUP) refuse(file_.path(), errno);
  }

 private:
  void write_at(std::uint64_t at, const std::byte* data, std::uint64_t bytes) const {
    while (bytes > 0) {
      const ssize_t count = ::pwrite(file_.fd(), data, bytes, static_cast<off_t>(at));
      if (count < 0 && errno == EINTR) continue;
      if (count <= 0) refuse(file_.path(), count < 0 ? errno : EIO);
      at += static_cast<std::uint64_t>(count);
      data += count;
      bytes -= static_cast<std::uint64_t>(count);
    }
  }
  [[noreturn]] static void refuse(const std::filesystem::path& path, int error_number) {
    throw UserError(ExitCode::file, "cannot write '" + path.string() + "'", errno_text(error_number),
                    "Check the folder given to --save-compressed and the room on its disk");
  }

  FileHandle file_;
  std::uint64_t header_bytes_;
};

class ShardSink final : public PartSink {
 public:
  explicit ShardSink(std::span<const ShardFile> shards) : shards_(shards) {}

  std::byte* memory(const ImagePart& part) override {
    bytes_.resize(part.size_bytes());
    return bytes_.data();
  }
  void done(const ImagePart& part, std::byte* data) override {
    shards_[part.image].write_data(part.begin, data, part.size_bytes());
  }

 private:
  std::span<const ShardFile> shards_;
  std::vector<std::byte> bytes_;
};

// What of the layer a shard keeps: weights that layers share are the embedding's.
WeightImage shard_image(const LayerDescription& layer, const QuantFormat& format) {
  WeightImage image{&layer, DType::float32, {}};
  std::uint64_t at = 0;
  for (std::size_t w = 0; w < layer.weights.size(); ++w) {
    const WeightSpec& weight = layer.weights[w];
    if (!weight.shared_as.empty() && layer.kind != LayerKind::embedding) continue;
    const QuantFormat stored = stored_format(weight.role, format);
    image.weights.push_back({w, stored, at, stored_bytes(weight, DType::float32, stored)});
    at += image.weights.back().size_bytes;
  }
  return image;
}

// As safetensors has it: the length of the JSON text, the text, padded to whole eights.
std::string shard_header(const WeightImage& image) {
  nlohmann::ordered_json entries;
  for (const StoredWeight& stored : image.weights) {
    const WeightSpec& weight = image.layer->weights[stored.index];
    const bool compressed = !stored.format.is_none();
    entries[tensor_name(weight)] = {
        {"dtype", compressed ? "U8" : "F32"},
        {"shape", {weight.rows, compressed ? stored.format.row_bytes(weight.cols) : weight.cols}},
        {"data_offsets", {stored.offset_bytes, stored.offset_bytes + stored.size_bytes}}};
  }
  std::string text = entries.dump();
  text.resize(align_up(text.size(), 8), ' ');
  const std::uint64_t size = text.size();
  return std::string(reinterpret_cast<const char*>(&size), sizeof size) + text;
}

class CompressedSource final : public WeightSource {
 public:
  CompressedSource(const Checkpoint& checkpoint, const QuantFormat& format) : checkpoint_(checkpoint), format_(format) {
    for (const auto& path : checkpoint_.files()) files_.push_back(FileHandle::open_read(path, true));
  }

  void require(std::span<const LayerDescription> layers) const override {
    for (const LayerDescription& layer : layers)
      for (const WeightSpec& weight : layer.weights) find(weight, stored_format(weight.role, format_));
  }

  std::unique_ptr<WeightReader> make_reader() const override;
  bool is_compressed() const override { return true; }

  bool in_place(const WeightSpec& weight, std::int64_t first, std::int64_t count, DType dtype,
                std::vector<FileExtent>& extents) const override {
    if (dtype != DType::float32) return false;
    extents.push_back(plain_extent(weight, first, count));
    return true;
  }

  FileExtent plain_extent(const WeightSpec& weight, std::int64_t first, std::int64_t count) const {
    return extent(find(weight, {}), static_cast<std::uint64_t>(first) * sizeof(float),
                  static_cast<std::uint64_t>(count) * sizeof(float));
  }
  FileExtent rows_extent(const WeightSpec& weight, const QuantFormat& format, std::int64_t first,
                         std::int64_t count) const {
    const auto row_bytes = static_cast<std::uint64_t>(format.row_bytes(weight.cols));
    return extent(find(weight, format), static_cast<std::uint64_t>(first) * row_bytes,
                  static_cast<std::uint64_t>(count) * row_bytes);
  }

 private:
  struct Place {
    std::size_t file = 0;
    std::uint64_t offset_bytes = 0;
  };

  // Throws where the tensor is missing or of another size than this model and format ask for.
  Place find(const WeightSpec& weight, const QuantFormat& format) const {
    const std::uint64_t bytes = stored_bytes(weight, DType::float32, format);
    const std::string& name = tensor_name(weight);
    Place place;
    std::uint64_t found_bytes = 0;
    if (format.is_none()) {
      const CheckpointTensor& tensor = checkpoint_.require(name);
      place = {tensor.file, tensor.offset_bytes};
      found_bytes = tensor.dtype == DType::float32 ? tensor.size_bytes : 0;
    } else if (const UnsupportedTensor* tensor = checkpoint_.find_unsupported(name); tensor && tensor->dtype == "U8") {
      place = {tensor->file, tensor->offset_bytes};
      found_bytes = tensor->size_bytes;
    } else {
      checkpoint_.require(name);
    }
    if (found_bytes != bytes)
      throw UserError(ExitCode::model, fmt::format("tensor '{}' of the compressed checkpoint has the wrong size", name),
                      fmt::format("it holds {} bytes, the config.json asks for {}", found_bytes, bytes),
                      "Config and weights are not of the same model; save it again with --save-compressed");
    return place;
  }
  FileExtent extent(const Place& place, std::uint64_t offset, std::uint64_t bytes) const {
    return {&files_[place.file], place.offset_bytes + offset, bytes};
  }

  Checkpoint checkpoint_;
  QuantFormat format_;
  std::vector<FileHandle> files_;
  std::shared_ptr<StagingPlaces> places_ = std::make_shared<StagingPlaces>(readers_at_a_time, reader_staging_bytes);
};

class CompressedReader final : public WeightReader {
 public:
  CompressedReader(const CompressedSource& source, std::shared_ptr<StagingPlaces> places)
      : source_(source), reader_(std::move(places), IoQueue::make(reader_queue_depth)) {}

  void produce(std::span<const WeightPiece> pieces, DType dtype) override {
    for (const WeightPiece& piece : pieces) {
      values_.resize(static_cast<std::size_t>(piece.count));
      auto* raw = reinterpret_cast<std::byte*>(values_.data());
      reader_.copy(source_.plain_extent(*piece.weight, piece.first, piece.count), raw);
      convert_elements(raw, DType::float32, piece.destination, dtype, static_cast<std::uint64_t>(piece.count));
    }
  }

  void produce_compressed(const WeightSpec& weight, const QuantFormat& format, std::int64_t first, std::int64_t count,
                          std::byte* to) override {
    reader_.copy(source_.rows_extent(weight, format, first, count), to);
  }

 private:
  const CompressedSource& source_;
  StagedReader reader_;
  std::vector<float> values_;
};

std::unique_ptr<WeightReader> CompressedSource::make_reader() const {
  return std::make_unique<CompressedReader>(*this, places_);
}

}  // namespace

ShardMap write_compressed_layers(std::span<const LayerDescription> layers, const QuantFormat& format,
                                 const WeightSource& source, const std::filesystem::path& folder,
                                 const ImageThreads& threads) {
  ShardMap names;
  std::vector<WeightImage> images;
  std::vector<ShardFile> shards;
  std::vector<ImagePart> parts;
  for (const LayerDescription& layer : layers) {
    WeightImage image = shard_image(layer, format);
    if (image.weights.empty()) continue;
    std::string file = "compressed-" + layer.name + ".safetensors";
    std::replace(file.begin(), file.end(), ' ', '-');
    shards.emplace_back(folder / file, shard_header(image));
    for (const StoredWeight& stored : image.weights) names[tensor_name(layer.weights[stored.index])] = file;
    const std::uint64_t end = image.weights.back().offset_bytes + image.weights.back().size_bytes;
    append_parts(parts, images.size(), image, 0, end, threads);
    images.push_back(std::move(image));
  }
  make_parts(source, images, parts, threads, [&] { return std::make_unique<ShardSink>(shards); });
  for (const ShardFile& shard : shards) shard.finish();
  return names;
}

std::unique_ptr<WeightSource> make_compressed_source(const Checkpoint& checkpoint, const QuantFormat& format) {
  return std::make_unique<CompressedSource>(checkpoint, format);
}

}  // namespace flexgen

#include "engine/compressed_checkpoint.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cerrno>
#include <fstream>
#include <nlohmann/json.hpp>

#include "base/bytes.hpp"
#include "base/error.hpp"
#include "engine/weight_compressor.hpp"
#include "ops/elementwise.hpp"
#include "policy/weight_layout.hpp"

namespace flexgen {
namespace {

constexpr std::uint64_t piece_bytes = 32 * MiB;

const std::string& tensor_name(const WeightSpec& weight) { return weight.sources.front().keys.front(); }

struct Tensor {
  std::size_t index = 0;  // in the layer
  QuantFormat format;
  std::uint64_t bytes = 0;
};

class ShardWriter {
 public:
  explicit ShardWriter(std::filesystem::path path) : path_(std::move(path)), file_(path_, std::ios::binary) { check(); }

  void header(const nlohmann::ordered_json& entries) {
    std::string text = entries.dump();
    text.resize(align_up(text.size(), 8), ' ');
    const std::uint64_t size = text.size();
    write(reinterpret_cast<const std::byte*>(&size), sizeof size);
    write(reinterpret_cast<const std::byte*>(text.data()), text.size());
  }
  void write(const std::byte* data, std::uint64_t bytes) {
    file_.write(reinterpret_cast<const char*>(data), static_cast<std::streamsize>(bytes));
    check();
  }
  void close() {
    file_.close();
    check();
  }

 private:
  void check() const {
    if (!file_)
      throw UserError(ExitCode::file, "cannot write '" + path_.string() + "'", errno_text(errno),
                      "Check the folder given to --save-compressed and the room on its disk");
  }
  std::filesystem::path path_;
  std::ofstream file_;
};

nlohmann::ordered_json describe(const LayerDescription& layer, const std::vector<Tensor>& tensors) {
  nlohmann::ordered_json entries;
  std::uint64_t at = 0;
  for (const Tensor& tensor : tensors) {
    const WeightSpec& weight = layer.weights[tensor.index];
    const bool compressed = !tensor.format.is_none();
    entries[tensor_name(weight)] = {
        {"dtype", compressed ? "U8" : "F32"},
        {"shape", {weight.rows, compressed ? tensor.format.row_bytes(weight.cols) : weight.cols}},
        {"data_offsets", {at, at + tensor.bytes}}};
    at += tensor.bytes;
  }
  return entries;
}

void write_tensor(const LayerDescription& layer, const Tensor& tensor, WeightSource& source,
                  WeightCompressor& compressor, ShardWriter& shard) {
  const WeightSpec& weight = layer.weights[tensor.index];
  std::vector<std::byte> piece;
  for (std::uint64_t at = 0; at < tensor.bytes; at += piece_bytes) {
    const std::uint64_t until = std::min(tensor.bytes, at + piece_bytes);
    piece.resize(until - at);
    if (!tensor.format.is_none()) {
      compressor.produce(layer, tensor.index, tensor.format, at, until, piece.data());
    } else {
      const auto first = static_cast<std::int64_t>(at / sizeof(float));
      const auto count = static_cast<std::int64_t>((until - at) / sizeof(float));
      const WeightPiece wanted{&weight, first, count, piece.data()};
      source.produce({&wanted, 1}, DType::float32);
      compressor.correct_bias(layer, tensor.index, first, count, piece.data(), DType::float32);
    }
    shard.write(piece.data(), piece.size());
  }
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

  void produce(std::span<const WeightPiece> pieces, DType dtype) override {
    std::vector<float> values;
    for (const WeightPiece& piece : pieces) {
      values.resize(static_cast<std::size_t>(piece.count));
      auto* raw = reinterpret_cast<std::byte*>(values.data());
      const auto bytes = static_cast<std::uint64_t>(piece.count) * sizeof(float);
      reader_.read(extent(find(*piece.weight, {}), static_cast<std::uint64_t>(piece.first) * sizeof(float), bytes),
                   raw);
      convert_elements(raw, DType::float32, piece.destination, dtype, static_cast<std::uint64_t>(piece.count));
    }
  }

  bool produce_compressed(const WeightSpec& weight, const QuantFormat& format, std::int64_t first, std::int64_t count,
                          std::byte* to) override {
    const auto row_bytes = static_cast<std::uint64_t>(format.row_bytes(weight.cols));
    reader_.read(extent(find(weight, format), static_cast<std::uint64_t>(first) * row_bytes,
                        static_cast<std::uint64_t>(count) * row_bytes),
                 to);
    return true;
  }

  bool in_place(const WeightSpec& weight, std::int64_t first, std::int64_t count, DType dtype,
                std::vector<FileExtent>& extents) const override {
    if (dtype != DType::float32) return false;
    extents.push_back(extent(find(weight, {}), static_cast<std::uint64_t>(first) * sizeof(float),
                             static_cast<std::uint64_t>(count) * sizeof(float)));
    return true;
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
  ExtentReader reader_;
};

}  // namespace

ShardMap write_compressed_layers(std::span<const LayerDescription> layers, const QuantFormat& format,
                                 WeightSource& source, const std::filesystem::path& folder) {
  ShardMap shards;
  WeightCompressor compressor(source);
  for (const LayerDescription& layer : layers) {
    std::vector<Tensor> tensors;
    for (std::size_t w = 0; w < layer.weights.size(); ++w) {
      const WeightSpec& weight = layer.weights[w];
      if (!weight.shared_as.empty() && layer.kind != LayerKind::embedding) continue;
      const QuantFormat stored = stored_format(weight.role, format);
      tensors.push_back({w, stored, stored_bytes(weight, DType::float32, stored)});
    }
    if (tensors.empty()) continue;
    std::string file = "compressed-" + layer.name + ".safetensors";
    std::replace(file.begin(), file.end(), ' ', '-');
    ShardWriter shard(folder / file);
    shard.header(describe(layer, tensors));
    for (const Tensor& tensor : tensors) {
      write_tensor(layer, tensor, source, compressor, shard);
      shards[tensor_name(layer.weights[tensor.index])] = file;
    }
    shard.close();
  }
  return shards;
}

std::unique_ptr<WeightSource> make_compressed_source(const Checkpoint& checkpoint, const QuantFormat& format) {
  return std::make_unique<CompressedSource>(checkpoint, format);
}

}  // namespace flexgen

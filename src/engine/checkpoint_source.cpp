#include <fmt/format.h>

#include <algorithm>

#include "base/bytes.hpp"
#include "base/error.hpp"
#include "engine/weight_source.hpp"
#include "ops/elementwise.hpp"
#include "storage/aligned_buffer.hpp"

namespace flexgen {
namespace {

constexpr std::uint64_t conversion_bytes = 8 * MiB;  // read at once when the dtype has to change

class CheckpointSource final : public WeightSource {
 public:
  explicit CheckpointSource(const Checkpoint& checkpoint) : checkpoint_(checkpoint) {
    for (const auto& path : checkpoint_.files()) files_.push_back(FileHandle::open_read(path, true));
  }

  void require(std::span<const LayerDescription> layers) const override {
    for (const LayerDescription& layer : layers)
      for (const WeightSpec& weight : layer.weights)
        for (const CheckpointKeys& source : weight.sources) require_source(source);
  }

  void produce(std::span<const WeightPiece> pieces, DType dtype) override {
    std::vector<ExtentRead> reads;
    for (const WeightPiece& piece : pieces)
      for_each_part(*piece.weight, piece.first, piece.count,
                    [&](const CheckpointTensor& tensor, std::int64_t first, std::int64_t count, std::int64_t done) {
                      std::byte* to = piece.destination + static_cast<std::uint64_t>(done) * element_bytes(dtype);
                      if (tensor.dtype == dtype) reads.push_back({extent(tensor, first, count), to});
                      else convert(tensor, first, count, dtype, to);
                    });
    read_extents(reader_.queue(), reads);
  }

  bool in_place(const WeightSpec& weight, std::int64_t first, std::int64_t count, DType dtype,
                std::vector<FileExtent>& extents) const override {
    bool same = true;
    for_each_part(weight, first, count,
                  [&](const CheckpointTensor& tensor, std::int64_t at, std::int64_t n, std::int64_t) {
                    same = same && tensor.dtype == dtype;
                    extents.push_back(extent(tensor, at, n));
                  });
    return same;
  }

 private:
  const CheckpointTensor& require_source(const CheckpointKeys& source) const {
    for (const std::string& key : source.keys)
      if (const CheckpointTensor* tensor = checkpoint_.find(key)) {
        const auto elements = static_cast<std::int64_t>(tensor->size_bytes / element_bytes(tensor->dtype));
        if (elements != source.num_elements)
          throw UserError(ExitCode::model, fmt::format("tensor '{}' has the wrong size", key),
                          fmt::format("'{}' holds {} elements, the config.json asks for {}",
                                      checkpoint_.files()[tensor->file].string(), elements, source.num_elements),
                          "Config and weights are not of the same model");
        return *tensor;
      }
    return checkpoint_.require(source.keys.front());
  }

  FileExtent extent(const CheckpointTensor& tensor, std::int64_t first, std::int64_t count) const {
    const std::uint64_t size = element_bytes(tensor.dtype);
    return {&files_[tensor.file], tensor.offset_bytes + static_cast<std::uint64_t>(first) * size,
            static_cast<std::uint64_t>(count) * size};
  }

  // Calls visit(tensor, first, count, elements before) for each stretch of a checkpoint tensor that a range of the
  // weight covers.
  template <class Visit>
  void for_each_part(const WeightSpec& weight, std::int64_t first, std::int64_t count, Visit visit) const {
    std::int64_t begin = 0;  // of the source within the weight
    std::int64_t done = 0;
    for (const CheckpointKeys& source : weight.sources) {
      const std::int64_t from = std::max(first, begin);
      const std::int64_t to = std::min(first + count, begin + source.num_elements);
      if (from < to) {
        visit(require_source(source), from - begin, to - from, done);
        done += to - from;
      }
      begin += source.num_elements;
    }
    FLEXGEN_CHECK(done == count, "weight is not covered by its sources");
  }

  void convert(const CheckpointTensor& tensor, std::int64_t first, std::int64_t count, DType dtype, std::byte* to) {
    if (buffer_.size_bytes() == 0) buffer_ = AlignedBuffer(conversion_bytes);
    const auto per_read = static_cast<std::int64_t>(conversion_bytes / element_bytes(tensor.dtype));
    for (std::int64_t done = 0; done < count; done += per_read) {
      const std::int64_t n = std::min(per_read, count - done);
      reader_.read(extent(tensor, first + done, n), buffer_.data());
      convert_elements(buffer_.data(), tensor.dtype, to + static_cast<std::uint64_t>(done) * element_bytes(dtype),
                       dtype, static_cast<std::uint64_t>(n));
    }
  }

  Checkpoint checkpoint_;
  std::vector<FileHandle> files_;
  ExtentReader reader_;
  AlignedBuffer buffer_;
};

}  // namespace

std::unique_ptr<WeightSource> make_checkpoint_source(const Checkpoint& checkpoint) {
  return std::make_unique<CheckpointSource>(checkpoint);
}

}  // namespace flexgen

#include <fmt/core.h>

#include <algorithm>
#include <cstring>

#include "base/bytes.hpp"
#include "base/error.hpp"
#include "ops/elementwise.hpp"
#include "weights/weight_source.hpp"

namespace flexgen {
namespace {

// A stretch of one checkpoint tensor that a range of a weight covers.
struct TensorPart {
  const CheckpointTensor* tensor = nullptr;
  std::int64_t first = 0;  // element of the tensor
  std::int64_t count = 0;
  std::int64_t before = 0;  // elements of the range that come before it
};

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

  std::unique_ptr<WeightReader> make_reader() const override;

  bool in_place(const WeightSpec& weight, std::int64_t first, std::int64_t count, DType dtype,
                std::vector<FileExtent>& extents) const override {
    bool same = true;
    for_each_part(weight, first, count, [&](const TensorPart& part) {
      same = same && part.tensor->dtype == dtype;
      extents.push_back(extent(part.tensor, part.first, part.count));
    });
    return same;
  }

  FileExtent extent(const CheckpointTensor* tensor, std::int64_t first, std::int64_t count) const {
    const std::uint64_t size = element_bytes(tensor->dtype);
    return {&files_[tensor->file], tensor->offset_bytes + static_cast<std::uint64_t>(first) * size,
            static_cast<std::uint64_t>(count) * size};
  }

  template <class Visit>
  void for_each_part(const WeightSpec& weight, std::int64_t first, std::int64_t count, Visit visit) const {
    std::int64_t begin = 0;  // of the source within the weight
    std::int64_t done = 0;
    for (const CheckpointKeys& source : weight.sources) {
      const std::int64_t from = std::max(first, begin);
      const std::int64_t to = std::min(first + count, begin + source.num_elements);
      if (from < to) {
        visit(TensorPart{&require_source(source), from - begin, to - from, done});
        done += to - from;
      }
      begin += source.num_elements;
    }
    FLEXGEN_CHECK(done == count, "weight is not covered by its sources");
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

  Checkpoint checkpoint_;
  std::vector<FileHandle> files_;
  std::shared_ptr<StagingPlaces> places_ = std::make_shared<StagingPlaces>(readers_at_a_time, reader_staging_bytes);
};

// Stages as much as there is room for with one deep queue, then converts it to where it belongs.
class CheckpointReader final : public WeightReader {
 public:
  CheckpointReader(const CheckpointSource& source, std::shared_ptr<StagingPlaces> places)
      : source_(source), staging_(std::move(places), IoQueue::make(reader_queue_depth)) {}

  void produce(std::span<const WeightPiece> pieces, DType dtype) override {
    for (const WeightPiece& piece : pieces)
      source_.for_each_part(*piece.weight, piece.first, piece.count, [&](const TensorPart& part) {
        stage(part, piece.destination + static_cast<std::uint64_t>(part.before) * element_bytes(dtype), dtype);
      });
    flush(dtype);
  }

 private:
  struct Staged {
    std::byte* from = nullptr;
    DType dtype = DType::float32;
    std::int64_t count = 0;
    std::byte* to = nullptr;
  };

  void stage(const TensorPart& part, std::byte* to, DType dtype) {
    const std::uint64_t from_bytes = element_bytes(part.tensor->dtype);
    for (std::int64_t done = 0; done < part.count;) {
      const FileExtent rest = source_.extent(part.tensor, part.first + done, part.count - done);
      const auto fitting = static_cast<std::int64_t>(staging_.room_bytes(rest.offset_bytes) / from_bytes);
      const std::int64_t count = std::min(part.count - done, fitting);
      if (count == 0) {
        flush(dtype);
        continue;
      }
      std::byte* from = staging_.stage(source_.extent(part.tensor, part.first + done, count));
      staged_.push_back(
          {from, part.tensor->dtype, count, to + static_cast<std::uint64_t>(done) * element_bytes(dtype)});
      done += count;
    }
  }

  void flush(DType dtype) {
    staging_.read();
    for (const Staged& one : staged_)
      convert_elements(aligned(one), one.dtype, one.to, dtype, static_cast<std::uint64_t>(one.count));
    staged_.clear();
    staging_.clear();
  }

  // Bytes stand where their offset in the file puts them; some files give elements odd offsets.
  static const std::byte* aligned(const Staged& staged) {
    const std::uint64_t size = element_bytes(staged.dtype);
    const std::uint64_t excess = reinterpret_cast<std::uintptr_t>(staged.from) % size;
    if (excess == 0) return staged.from;
    return static_cast<const std::byte*>(
        std::memmove(staged.from - excess, staged.from, static_cast<std::uint64_t>(staged.count) * size));
  }

  const CheckpointSource& source_;
  StagedReader staging_;
  std::vector<Staged> staged_;
};

std::unique_ptr<WeightReader> CheckpointSource::make_reader() const {
  return std::make_unique<CheckpointReader>(*this, places_);
}

}  // namespace

std::unique_ptr<WeightSource> make_checkpoint_source(const Checkpoint& checkpoint) {
  return std::make_unique<CheckpointSource>(checkpoint);
}

}  // namespace flexgen

// Where the elements of weights come from: a checkpoint on disk, or made up in place (bench --dummy).
//
// A WeightSource says what there is; it is immutable and any thread may ask it. Who reads has a WeightReader of their
// own, with a queue and buffers that nobody shares: one thread, one reader. Readers give any range of elements in any
// of our dtypes, so that each tier's part of a pack is filled on its own and no whole tensor ever stands in memory.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "spec/dtype.hpp"
#include "spec/layer_description.hpp"
#include "storage/direct_reader.hpp"
#include "weights/checkpoint/checkpoint.hpp"

namespace flexgen {

/// Elements [first, first + count) of a weight, to be written to `destination` (host memory).
struct WeightPiece {
  const WeightSpec* weight = nullptr;
  std::int64_t first = 0;
  std::int64_t count = 0;
  std::byte* destination = nullptr;
};

/// One thread's way to the elements. Must not outlive its source.
class WeightReader {
 public:
  virtual ~WeightReader() = default;

  virtual void produce(std::span<const WeightPiece> pieces, DType dtype) = 0;

  /// Rows [first, first + count) of a matrix as they are stored compressed (format.row_bytes each). Only where the
  /// source is compressed.
  virtual void produce_compressed(const WeightSpec& weight, const QuantFormat& format, std::int64_t first,
                                  std::int64_t count, std::byte* to);
};

class WeightSource {
 public:
  virtual ~WeightSource() = default;

  /// Throws UserError (model) unless every weight can be produced; reads nothing.
  virtual void require(std::span<const LayerDescription> layers) const = 0;

  virtual std::unique_ptr<WeightReader> make_reader() const = 0;

  /// True where compressed weights come as they are stored, by produce_compressed.
  virtual bool is_compressed() const { return false; }

  /// Appends the file extents that hold these elements as they are, in order; false when there are none such (other
  /// dtype, no file): then a copy has to be made.
  virtual bool in_place(const WeightSpec& weight, std::int64_t first, std::int64_t count, DType dtype,
                        std::vector<FileExtent>& extents) const = 0;
};

/// Reads straight out of the user's Hugging Face files, by direct I/O where the file system has it.
std::unique_ptr<WeightSource> make_checkpoint_source(const Checkpoint& checkpoint);

/// Pseudo-random weights, a pure function of the weight's name: equal for any placement and number of ranks.
std::unique_ptr<WeightSource> make_random_source();

/// Bytes that a reader of files stages at a time, and how deep its queue is: it is one of many.
inline constexpr std::uint64_t reader_staging_bytes = 4ULL << 20;
inline constexpr int reader_queue_depth = 16;
/// How many readers of a source read at a time. With usual parts 6 MiB are so in flight: a disk that answers in a
/// millisecond gives 6 GB/s, and virtual ones give less where it is more (benchmark/results/loading.md).
inline constexpr int readers_at_a_time = 6;

}  // namespace flexgen

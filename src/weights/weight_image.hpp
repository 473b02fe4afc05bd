// Weights as they are stored, one after another: a pack of the weight store, or a shard of a compressed checkpoint.
// Making such images is the work of many threads, each on parts of its own.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <vector>

#include "spec/layer_description.hpp"
#include "weights/weight_source.hpp"

namespace flexgen {

struct StoredWeight {
  std::size_t index = 0;  // in the layer
  QuantFormat format;
  std::uint64_t offset_bytes = 0;  // in the image
  std::uint64_t size_bytes = 0;
};

struct WeightImage {
  const LayerDescription* layer = nullptr;
  DType dtype = DType::float32;       // of what is not compressed
  std::vector<StoredWeight> weights;  // by offset; a matrix before its bias
};

/// Bytes [begin, end) of an image, made at one go.
struct ImagePart {
  std::size_t image = 0;
  std::uint64_t begin = 0;
  std::uint64_t end = 0;

  std::uint64_t size_bytes() const { return end - begin; }
};

/// Where one thread's parts go.
class PartSink {
 public:
  virtual ~PartSink() = default;
  /// Host memory for the part's bytes; the gaps between its weights are not written.
  virtual std::byte* memory(const ImagePart& part) = 0;
  /// The part stands in that memory.
  virtual void done(const ImagePart& part, std::byte* data) = 0;
};

struct ImageThreads {
  int count = 0;                     // 0: as many as keep a disk and the processors busy
  std::uint64_t part_bytes = 0;      // 0: what suits the image
  std::uint64_t part_alignment = 4;  // of where parts are cut, from their first byte on; no element may be cut
};

/// How many threads make_parts would start.
int num_part_threads(const ImageThreads& threads, std::size_t num_parts);

/// Cuts bytes [begin, end) of an image into parts that a thread can hold, and appends them.
void append_parts(std::vector<ImagePart>& parts, std::size_t index, const WeightImage& image, std::uint64_t begin,
                  std::uint64_t end, const ImageThreads& threads);

/// Makes all parts, which stand in order of image and offset. `make_sink` is called once by each thread. What any
/// thread throws ends the work and is thrown on; what was made by then is unspecified. The bytes made do not depend on
/// the number of threads, nor on where the parts are cut. Throws UserError (model) for a matrix to be compressed that
/// holds a NaN or an infinity.
void make_parts(const WeightSource& source, std::span<const WeightImage> images, std::span<const ImagePart> parts,
                const ImageThreads& threads, const std::function<std::unique_ptr<PartSink>()>& make_sink);

}  // namespace flexgen

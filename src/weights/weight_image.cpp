#include "weights/weight_image.hpp"

#include <algorithm>
#include <atomic>
#include <mutex>
#include <system_error>
#include <thread>

#include "base/bytes.hpp"
#include "ops/elementwise.hpp"
#include "ops/parallel_for.hpp"
#include "ops/threads.hpp"
#include "weights/bias_corrections.hpp"
#include "weights/weight_compressor.hpp"

namespace flexgen {
namespace {

// Small enough for what all threads have in hand to stay in the processors' caches, from the disk to its home, and
// large enough for the disk. A plain part is read with the blocks that it begins and ends in; of a compressed one about
// four times its size is read.
constexpr std::uint64_t plain_part_bytes = 1 * MiB - 2 * direct_alignment;
constexpr std::uint64_t compressed_part_bytes = 256 * KiB;
// While some threads wait for the disk, others convert, compress and copy.
constexpr int fewest_threads = 2 * readers_at_a_time;
constexpr int most_threads = 32;

std::uint64_t usual_part_bytes(const WeightImage& image) {
  const bool compressed = std::ranges::any_of(image.weights, [](const StoredWeight& w) { return !w.format.is_none(); });
  return compressed ? compressed_part_bytes : plain_part_bytes;
}

class PartMaker {
 public:
  PartMaker(const WeightSource& source, std::span<const WeightImage> images, std::span<const ImagePart> parts,
            const std::function<std::unique_ptr<PartSink>()>& make_sink)
      : source_(source),
        images_(images),
        parts_(parts),
        make_sink_(make_sink),
        corrections_(source.is_compressed() ? std::span<const WeightImage>{} : images) {}

  void run(int num_threads) {
    {
      std::vector<std::jthread> others;
      try {
        while (static_cast<int>(others.size()) + 1 < num_threads) others.emplace_back([this] { work(); });
      } catch (const std::system_error&) {  // the system has no more threads: those there are do it
      }
      work();
    }
    if (error_) std::rethrow_exception(error_);
  }

 private:
  void work() {
    const SerialLoops alone;
    try {
      const std::unique_ptr<WeightReader> reader = source_.make_reader();
      const std::unique_ptr<PartSink> sink = make_sink_();
      WeightCompressor compressor(*reader, source_.is_compressed(), corrections_);
      // Parts are taken in order: whoever waits for the rows of a matrix waits for threads that are at work on them.
      for (std::size_t at = next_++; at < parts_.size() && !failed_; at = next_++) {
        const ImagePart& part = parts_[at];
        std::byte* data = sink->memory(part);
        make(part, *reader, compressor, data);
        sink->done(part, data);
      }
    } catch (const Cancelled&) {
    } catch (...) {
      const std::lock_guard lock(mutex_);
      if (!error_) error_ = std::current_exception();
      failed_ = true;
      corrections_.cancel();
    }
  }

  void make(const ImagePart& part, WeightReader& reader, WeightCompressor& compressor, std::byte* to) {
    const WeightImage& image = images_[part.image];
    const LayerDescription& layer = *image.layer;
    const std::uint64_t size = element_bytes(image.dtype);
    std::vector<WeightPiece> pieces;
    for (const StoredWeight& stored : image.weights) {
      const std::uint64_t from = std::max(part.begin, stored.offset_bytes);
      const std::uint64_t until = std::min(part.end, stored.offset_bytes + stored.size_bytes);
      if (from >= until) continue;
      std::byte* destination = to + (from - part.begin);
      if (!stored.format.is_none()) {
        compressor.produce(layer, stored.index, stored.format, from - stored.offset_bytes, until - stored.offset_bytes,
                           destination);
        continue;
      }
      pieces.push_back({&layer.weights[stored.index], static_cast<std::int64_t>((from - stored.offset_bytes) / size),
                        static_cast<std::int64_t>((until - from) / size), destination});
    }
    reader.produce(pieces, image.dtype);
    for (const WeightPiece& piece : pieces) correct(layer, piece, image.dtype);
  }

  void correct(const LayerDescription& layer, const WeightPiece& piece, DType dtype) {
    const auto index = static_cast<std::size_t>(piece.weight - layer.weights.data());
    const std::span<const float> correction = corrections_.await(layer, index);
    if (correction.empty()) return;
    const auto count = static_cast<std::uint64_t>(piece.count);
    std::vector<float> values(count);
    auto* raw = reinterpret_cast<std::byte*>(values.data());
    convert_elements(piece.destination, dtype, raw, DType::float32, count);
    for (std::uint64_t i = 0; i < count; ++i) values[i] += correction[static_cast<std::uint64_t>(piece.first) + i];
    convert_elements(raw, DType::float32, piece.destination, dtype, count);
  }

  const WeightSource& source_;
  std::span<const WeightImage> images_;
  std::span<const ImagePart> parts_;
  const std::function<std::unique_ptr<PartSink>()>& make_sink_;
  BiasCorrections corrections_;
  std::atomic<std::size_t> next_ = 0;
  std::atomic<bool> failed_ = false;
  std::mutex mutex_;
  std::exception_ptr error_;
};

}  // namespace

void append_parts(std::vector<ImagePart>& parts, std::size_t index, const WeightImage& image, std::uint64_t begin,
                  std::uint64_t end, const ImageThreads& threads) {
  const std::uint64_t wanted = threads.part_bytes > 0 ? threads.part_bytes : usual_part_bytes(image);
  const std::uint64_t step = align_up(wanted, threads.part_alignment);
  for (; begin < end; begin += step) parts.push_back({index, begin, std::min(end, begin + step)});
}

int num_part_threads(const ImageThreads& threads, std::size_t num_parts) {
  const int usual = std::clamp(num_loop_threads(), fewest_threads, most_threads);
  return static_cast<int>(std::min<std::size_t>(threads.count > 0 ? threads.count : usual, num_parts));
}

void make_parts(const WeightSource& source, std::span<const WeightImage> images, std::span<const ImagePart> parts,
                const ImageThreads& threads, const std::function<std::unique_ptr<PartSink>()>& make_sink) {
  if (parts.empty()) return;
  PartMaker(source, images, parts, make_sink).run(num_part_threads(threads, parts.size()));
}

}  // namespace flexgen

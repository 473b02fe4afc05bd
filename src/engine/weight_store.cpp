#include "engine/weight_store.hpp"

#include <algorithm>
#include <atomic>
#include <condition_variable>
#include <mutex>
#include <thread>

#include "base/bytes.hpp"
#include "base/error.hpp"
#include "storage/direct_writer.hpp"

namespace flexgen {
WeightStore::WeightStore(std::vector<LayerDescription> layers, WeightLayout layout,
                         std::shared_ptr<WeightSource> source, WeightStoreOptions options, TierMemory& memory)
    : layers_(std::move(layers)),
      layout_(std::move(layout)),
      source_(std::move(source)),
      options_(options),
      memory_(memory) {
  source_->require(layers_);
  packs_.resize(layout_.packs.size());
  plan_disk();
  std::byte* gpu = memory_.on_device(Piece::weights_home).data;
  for (std::size_t p = 0; p < packs_.size(); ++p)
    if (layout_.packs[p].gpu_bytes > 0) packs_[p].gpu = gpu + layout_.packs[p].gpu_offset;
}

// Of memory that could not be pinned copies are slow; a kernel cannot read it at all.
void WeightStore::require_readable(std::size_t pack) const {
  const Buffer& dram = packs_[pack].dram.buffer();
  if (dram.seen_by_device() != nullptr) return;
  for (const LayerWeights& layer : layout_.layers)
    for (const WeightPlace& place : layer.places) {
      if (!place.looked_up || place.resident || static_cast<std::size_t>(place.pack) != pack) continue;
      throw UserError(ExitCode::does_not_fit, "the GPU cannot read the embedding's table in host memory",
                      "pinning " + format_bytes(dram.size_bytes()) + " was refused",
                      "Raise `ulimit -l`, or say --pin-weight false: the table is then copied for every sweep");
    }
}

void WeightStore::plan_disk() {
  std::uint64_t scratch_bytes = 0, file_bytes = 0, in_place_bytes = 0;
  for (std::size_t p = 0; p < packs_.size(); ++p) {
    const std::uint64_t ssd_bytes = layout_.packs[p].ssd_bytes();
    if (ssd_bytes == 0) continue;
    packs_[p].in_place = find_in_place(p, packs_[p].extents);
    if (packs_[p].in_place) {
      in_place_bytes += ssd_bytes;
    } else {
      scratch_bytes += ssd_bytes;
      file_bytes += align_up(ssd_bytes, direct_alignment);
    }
  }
  in_place_ = memory_.count_bytes(Piece::weights_home, TierKind::ssd, in_place_bytes, in_place_bytes);
  scratch_ = memory_.part_on_disk(Piece::weights_home, scratch_bytes, file_bytes);
  for (std::size_t p = 0; p < packs_.size(); ++p)
    if (layout_.packs[p].ssd_bytes() > 0 && !packs_[p].in_place) {
      packs_[p].extents.clear();
      packs_[p].scratch = scratch_.store->allocate(layout_.packs[p].ssd_bytes(), "weights of " + layers_[p].name);
    }
}

// The ssd part of a pack can be read where it lies when every weight in it has the dtype we compute with and no
// alignment gap stands between two of them.
bool WeightStore::find_in_place(std::size_t pack, std::vector<FileExtent>& extents) const {
  const WeightPack& split = layout_.packs[pack];
  const std::uint64_t begin = split.gpu_bytes + split.dram_bytes;
  const std::uint64_t size = element_bytes(options_.dtype);
  std::uint64_t covered = begin;
  for (std::size_t w = 0; w < layers_[pack].weights.size(); ++w) {
    const WeightPlace& place = layout_.layers[pack].places[w];
    if (static_cast<std::size_t>(place.pack) != pack || place.offset + place.bytes <= begin) continue;
    if (!place.quant.is_none()) return false;
    const std::uint64_t from = std::max(begin, place.offset);
    if (from != covered) return false;
    covered = place.offset + place.bytes;
    if (!source_->in_place(layers_[pack].weights[w], static_cast<std::int64_t>((from - place.offset) / size),
                           static_cast<std::int64_t>((covered - from) / size), options_.dtype, extents))
      return false;
  }
  return covered == split.bytes;
}

// Takes the packs' host memory in order, ahead of those who fill it: pinning would hold the disk up.
class WeightStore::Homes {
 public:
  explicit Homes(WeightStore& store)
      : store_(store), thread_([this](const std::stop_token& stop) { take_all(stop); }) {}

  /// Waits until the pack's home is there.
  void await(std::size_t pack) {
    std::unique_lock lock(mutex_);
    taken_.wait(lock, [&] { return error_ || pack < num_taken_; });
    if (error_) std::rethrow_exception(error_);
  }

 private:
  void take_all(const std::stop_token& stop) {
    for (std::size_t pack = 0; pack < store_.packs_.size() && !stop.stop_requested(); ++pack) {
      std::exception_ptr error;
      try {
        store_.take_home(pack);
      } catch (...) {
        error = std::current_exception();
      }
      const std::lock_guard lock(mutex_);
      error_ = error;
      ++num_taken_;
      taken_.notify_all();
      if (error_) return;
    }
  }

  WeightStore& store_;
  std::mutex mutex_;
  std::condition_variable taken_;
  std::size_t num_taken_ = 0;
  std::exception_ptr error_;
  std::jthread thread_;  // last: ends before the rest goes
};

// One thread's way to the homes: straight to host memory, through staging to a GPU and to the disk.
class WeightStore::HomeSink final : public PartSink {
 public:
  /// @param staging  this thread's own, for the largest part that goes to a GPU or to the disk
  HomeSink(WeightStore& store, Homes& homes, Tracer* tracer, std::byte* staging)
      : store_(store),
        homes_(homes),
        stream_("weights to their home", Stream::Mode::inline_tasks, store.memory_.device(), tracer),
        staging_(staging) {}

  std::byte* memory(const ImagePart& part) override {
    homes_.await(part.image);
    if (store_.is_staged(part)) return staging_;
    const std::uint64_t gpu_bytes = store_.layout_.packs[part.image].gpu_bytes;
    const PackHome& home = store_.packs_[part.image];
    return part.begin < gpu_bytes ? home.gpu + part.begin : home.dram.data() + (part.begin - gpu_bytes);
  }

  void done(const ImagePart& part, std::byte* data) override {
    if (!store_.is_staged(part)) return;
    const WeightPack& split = store_.layout_.packs[part.image];
    const PackHome& home = store_.packs_[part.image];
    if (part.begin < split.gpu_bytes) {
      stream_.copy(home.gpu + part.begin, data, part.size_bytes(), Resource::host_to_gpu, "weights to their home");
      stream_.record_in_task()->synchronize();  // the staging memory is used again
      return;
    }
    const TraceSpan span(stream_.tracer(), Resource::disk_write, "weights to their home", part.size_bytes());
    const std::uint64_t at = home.scratch.offset_bytes() + (part.begin - split.gpu_bytes - split.dram_bytes);
    const ExtentWrite write{
        &home.scratch.file(), at, align_up(part.size_bytes(), direct_alignment), {}, {data, part.size_bytes()}};
    if (!queue_) queue_ = IoQueue::make(reader_queue_depth);
    write_extents(*queue_, {&write, 1});
  }

 private:
  WeightStore& store_;
  Homes& homes_;
  Stream stream_;
  std::byte* staging_;
  std::unique_ptr<IoQueue> queue_;
};

void WeightStore::take_home(std::size_t pack) {
  const WeightPack& split = layout_.packs[pack];
  const bool on_gpu = memory_.device().is_cuda();
  if (!on_gpu) fault_in(packs_[pack].gpu, split.gpu_bytes);
  const bool pinned = options_.pin && on_gpu;
  packs_[pack].dram =
      memory_.part_on_host(Piece::weights_home, split.dram_bytes, pinned ? MemoryKind::pinned : MemoryKind::pageable);
  if (!pinned) fault_in(packs_[pack].dram.data(), split.dram_bytes);
  require_readable(pack);
}

std::vector<WeightImage> WeightStore::images() const {
  std::vector<WeightImage> images;
  for (std::size_t pack = 0; pack < packs_.size(); ++pack) {
    WeightImage image{&layers_[pack], options_.dtype, {}};
    for (std::size_t w = 0; w < layers_[pack].weights.size(); ++w) {
      const WeightPlace& place = layout_.layers[pack].places[w];
      if (static_cast<std::size_t>(place.pack) == pack)
        image.weights.push_back({w, place.quant, place.offset, place.bytes});
    }
    images.push_back(std::move(image));
  }
  return images;
}

// No part lies on two tiers, and on a disk each begins with a block.
std::vector<ImagePart> WeightStore::parts(std::span<const WeightImage> images) const {
  std::vector<ImagePart> parts;
  ImageThreads on_disk = options_.threads;
  on_disk.part_alignment = direct_alignment;
  for (std::size_t pack = 0; pack < images.size(); ++pack) {
    const WeightPack& split = layout_.packs[pack];
    const std::uint64_t gpu_end = split.gpu_bytes;
    const std::uint64_t dram_end = gpu_end + split.dram_bytes;
    append_parts(parts, pack, images[pack], 0, gpu_end, options_.threads);
    append_parts(parts, pack, images[pack], gpu_end, dram_end, options_.threads);
    if (!packs_[pack].in_place) append_parts(parts, pack, images[pack], dram_end, split.bytes, on_disk);
  }
  return parts;
}

// True of what the host cannot write to its home: that goes to a GPU, or to the disk.
bool WeightStore::is_staged(const ImagePart& part) const {
  const WeightPack& split = layout_.packs[part.image];
  if (part.begin < split.gpu_bytes) return memory_.device().is_cuda();
  return part.begin >= split.gpu_bytes + split.dram_bytes;
}

void WeightStore::fill(Tracer* tracer) {
  const std::vector<WeightImage> all = images();
  const std::vector<ImagePart> wanted = parts(all);
  std::uint64_t staged_bytes = 0;
  for (const ImagePart& part : wanted)
    if (is_staged(part)) staged_bytes = std::max(staged_bytes, align_up(part.size_bytes(), direct_alignment));
  const auto num_threads = static_cast<std::uint64_t>(num_part_threads(options_.threads, wanted.size()));
  const Buffer staging(MemoryKind::pinned, num_threads * staged_bytes, memory_.device());
  std::atomic<std::uint64_t> staging_taken = 0;
  Homes homes(*this);
  make_parts(*source_, all, wanted, options_.threads, [&] {
    return std::make_unique<HomeSink>(*this, homes, tracer, staging.data() + staged_bytes * staging_taken++);
  });
  if (!packs_.empty()) homes.await(packs_.size() - 1);
}

void WeightStore::load(LayerId layer, std::byte* slot, Transfer& transfer) const {
  const char* what = layers_[layer.index()].name.c_str();
  for (const PackRange& range : layout_.layers[layer.index()].loads) {
    const PackHome& home = packs_[static_cast<std::size_t>(range.pack)];
    const WeightPack& split = layout_.packs[static_cast<std::size_t>(range.pack)];
    const std::uint64_t gpu_end = split.gpu_bytes;
    const std::uint64_t dram_end = split.gpu_bytes + split.dram_bytes;
    std::byte* to = slot + range.slot_offset;
    std::uint64_t at = std::max(range.begin, gpu_end);
    if (at < std::min(dram_end, range.end)) {
      const std::uint64_t until = std::min(dram_end, range.end);
      transfer.host_to_gpu(to + (at - range.begin), home.dram.data() + (at - gpu_end), until - at, what);
      at = until;
    }
    if (at < range.end) load_from_disk(home, at - dram_end, range.end - dram_end, to + (at - range.begin), transfer);
  }
}

bool WeightStore::has_gpu_part(LayerId layer) const {
  return std::ranges::any_of(layout_.layers[layer.index()].loads, [&](const PackRange& range) {
    return range.begin < layout_.packs[static_cast<std::size_t>(range.pack)].gpu_bytes;
  });
}

void WeightStore::load_gpu_part(LayerId layer, std::byte* slot, Transfer& transfer) const {
  for (const PackRange& range : layout_.layers[layer.index()].loads) {
    const auto pack = static_cast<std::size_t>(range.pack);
    const std::uint64_t until = std::min(layout_.packs[pack].gpu_bytes, range.end);
    if (range.begin < until)
      transfer.within_gpu(slot + range.slot_offset, packs_[pack].gpu + range.begin, until - range.begin,
                          layers_[layer.index()].name.c_str());
  }
}

void WeightStore::load_from_disk(const PackHome& home, std::uint64_t begin, std::uint64_t end, std::byte* to,
                                 Transfer& transfer) const {
  std::vector<FileExtent> wanted;
  if (!home.in_place) {
    wanted.push_back(home.scratch.extent(begin, end - begin));
  } else {
    std::uint64_t at = 0;
    for (const FileExtent& extent : home.extents) {
      const std::uint64_t from = std::max(begin, at);
      const std::uint64_t until = std::min(end, at + extent.size_bytes);
      if (from < until) wanted.push_back({extent.file, extent.offset_bytes + (from - at), until - from});
      at += extent.size_bytes;
    }
  }
  transfer.disk_to_gpu(to, wanted, "weights");
}

std::vector<MatrixView> WeightStore::views(LayerId layer, std::byte* slot) const {
  const LayerWeights& weights = layout_.layers[layer.index()];
  std::vector<MatrixView> views;
  for (std::size_t w = 0; w < weights.places.size(); ++w) {
    const WeightPlace& place = weights.places[w];
    const WeightSpec& spec = layers_[layer.index()].weights[w];
    const PackHome& home = packs_[static_cast<std::size_t>(place.pack)];
    const std::int64_t rows = place.looked_up ? place.gpu_rows : spec.rows;
    std::byte* data = nullptr;  // of a table without rows on the gpu tier, which may not be there
    if (!place.resident && !place.looked_up) data = slot + place.slot_offset;
    else if (rows > 0) data = home.gpu + place.offset;
    views.push_back(contiguous_view(data, rows, spec.cols, options_.dtype, place.quant));
  }
  return views;
}

std::vector<MatrixView> WeightStore::rests(LayerId layer) const {
  const LayerWeights& weights = layout_.layers[layer.index()];
  std::vector<MatrixView> rests;
  if (std::ranges::none_of(weights.places, &WeightPlace::looked_up)) return rests;
  for (std::size_t w = 0; w < weights.places.size(); ++w) {
    const WeightPlace& place = weights.places[w];
    const WeightSpec& spec = layers_[layer.index()].weights[w];
    const auto pack = static_cast<std::size_t>(place.pack);
    if (!place.looked_up || place.gpu_rows == spec.rows) {
      rests.emplace_back();
      continue;
    }
    const std::uint64_t first = std::max(place.offset, layout_.packs[pack].gpu_bytes) - layout_.packs[pack].gpu_bytes;
    rests.push_back(contiguous_view(packs_[pack].dram.buffer().seen_by_device() + first, spec.rows - place.gpu_rows,
                                    spec.cols, options_.dtype, place.quant));
  }
  return rests;
}

}  // namespace flexgen

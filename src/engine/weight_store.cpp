#include "engine/weight_store.hpp"

#include <algorithm>

#include "base/bytes.hpp"
#include "base/error.hpp"
#include "storage/direct_writer.hpp"

namespace flexgen {
namespace {
constexpr std::uint64_t piece_bytes = 32 * MiB;  // produced at once where the destination is not host memory
}

WeightStore::WeightStore(std::vector<LayerDescription> layers, WeightLayout layout,
                         std::shared_ptr<WeightSource> source, WeightStoreOptions options, Arena& arena)
    : layers_(std::move(layers)),
      layout_(std::move(layout)),
      source_(std::move(source)),
      options_(std::move(options)),
      compressor_(*source_) {
  source_->require(layers_);
  packs_.resize(layout_.packs.size());
  plan_disk();
  for (std::size_t p = 0; p < packs_.size(); ++p) {
    packs_[p].gpu = arena.take(layout_.packs[p].gpu_bytes, "weights");
    const bool pinned = options_.pin && options_.device.is_cuda();
    packs_[p].dram =
        Buffer(pinned ? MemoryKind::pinned : MemoryKind::pageable, layout_.packs[p].dram_bytes, options_.device);
  }
  require_readable();
}

// Of memory that could not be pinned copies are slow; a kernel cannot read it at all.
void WeightStore::require_readable() const {
  for (const LayerWeights& layer : layout_.layers)
    for (const WeightPlace& place : layer.places) {
      const Buffer& dram = packs_[static_cast<std::size_t>(place.pack)].dram;
      if (!place.looked_up || place.resident || dram.seen_by_device() != nullptr) continue;
      throw UserError(ExitCode::does_not_fit, "the GPU cannot read the embedding's table in host memory",
                      "pinning " + format_bytes(dram.size_bytes()) + " was refused",
                      "Raise `ulimit -l`, or say --pin-weight false: the table is then copied for every sweep");
    }
}

void WeightStore::plan_disk() {
  std::uint64_t scratch_bytes = 0;
  for (std::size_t p = 0; p < packs_.size(); ++p) {
    const std::uint64_t ssd_bytes = layout_.packs[p].ssd_bytes();
    if (ssd_bytes == 0) continue;
    packs_[p].in_place = find_in_place(p, packs_[p].extents);
    if (!packs_[p].in_place) scratch_bytes += align_up(ssd_bytes, direct_alignment);
  }
  if (scratch_bytes == 0) return;
  scratch_ = std::make_unique<ScratchStore>(options_.offload_dir, scratch_bytes);
  for (std::size_t p = 0; p < packs_.size(); ++p)
    if (layout_.packs[p].ssd_bytes() > 0 && !packs_[p].in_place) {
      packs_[p].extents.clear();
      packs_[p].scratch = scratch_->allocate(layout_.packs[p].ssd_bytes(), "weights of " + layers_[p].name);
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

// Fills `to` with bytes [begin, end) of a pack.
void WeightStore::produce(std::size_t pack, std::uint64_t begin, std::uint64_t end, std::byte* to) {
  const std::uint64_t size = element_bytes(options_.dtype);
  std::vector<WeightPiece> pieces;
  for (std::size_t w = 0; w < layers_[pack].weights.size(); ++w) {
    const WeightPlace& place = layout_.layers[pack].places[w];
    if (static_cast<std::size_t>(place.pack) != pack) continue;
    const std::uint64_t from = std::max(begin, place.offset);
    const std::uint64_t until = std::min(end, place.offset + place.bytes);
    if (from >= until) continue;
    std::byte* destination = to + (from - begin);
    if (!place.quant.is_none()) {
      compressor_.produce(layers_[pack], w, place.quant, from - place.offset, until - place.offset, destination);
      continue;
    }
    pieces.push_back({&layers_[pack].weights[w], static_cast<std::int64_t>((from - place.offset) / size),
                      static_cast<std::int64_t>((until - from) / size), destination});
  }
  source_->produce(pieces, options_.dtype);
  for (const WeightPiece& piece : pieces)
    compressor_.correct_bias(layers_[pack], static_cast<std::size_t>(piece.weight - layers_[pack].weights.data()),
                             piece.first, piece.count, piece.destination, options_.dtype);
}

void WeightStore::fill(Transfer& transfer) {
  for (std::size_t p = 0; p < packs_.size(); ++p) {
    const WeightPack& split = layout_.packs[p];
    if (!options_.device.is_cuda()) fault_in(packs_[p].gpu, split.gpu_bytes);
    if (!options_.device.is_cuda() || !options_.pin) fault_in(packs_[p].dram.data(), split.dram_bytes);
    fill_gpu(p, transfer);
    if (split.dram_bytes > 0) produce(p, split.gpu_bytes, split.gpu_bytes + split.dram_bytes, packs_[p].dram.data());
    if (split.ssd_bytes() > 0 && !packs_[p].in_place) fill_disk(p, transfer);
  }
}

void WeightStore::fill_gpu(std::size_t pack, Transfer& transfer) {
  const std::uint64_t bytes = layout_.packs[pack].gpu_bytes;
  if (bytes == 0) return;
  if (!options_.device.is_cuda()) {
    produce(pack, 0, bytes, packs_[pack].gpu);
    return;
  }
  const Buffer staging(MemoryKind::pageable, std::min(bytes, piece_bytes), options_.device);
  for (std::uint64_t done = 0; done < bytes; done += piece_bytes) {
    const std::uint64_t part = std::min(piece_bytes, bytes - done);
    produce(pack, done, done + part, staging.data());
    transfer.host_to_gpu(packs_[pack].gpu + done, staging.data(), part, "weights to their home");
    transfer.stream().record_in_task()->synchronize();  // the staging memory is used again
  }
}

void WeightStore::fill_disk(std::size_t pack, Transfer& transfer) {
  const WeightPack& split = layout_.packs[pack];
  const std::uint64_t begin = split.gpu_bytes + split.dram_bytes;
  const Buffer staging(MemoryKind::pageable, std::min(split.ssd_bytes(), piece_bytes), Device{});
  const ScratchRegion& region = packs_[pack].scratch;
  for (std::uint64_t done = 0; done < split.ssd_bytes(); done += piece_bytes) {
    const std::uint64_t part = std::min(piece_bytes, split.ssd_bytes() - done);
    produce(pack, begin + done, begin + done + part, staging.data());
    const TraceSpan span(transfer.stream().tracer(), Resource::disk_write, "weights to their home", part);
    const ExtentWrite write{
        &region.file(), region.offset_bytes() + done, align_up(part, direct_alignment), {}, {staging.data(), part}};
    write_extents(transfer.queue(), {&write, 1});
  }
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
    rests.push_back(contiguous_view(packs_[pack].dram.seen_by_device() + first, spec.rows - place.gpu_rows, spec.cols,
                                    options_.dtype, place.quant));
  }
  return rests;
}

}  // namespace flexgen

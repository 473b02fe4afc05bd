// The weights of a slice in their homes, and their way into a slot of the computing device.
//
// Filled once, slice by slice, straight from the source and by many threads; read-only afterwards. `load` and
// `load_gpu_part` are called from the tasks of one stream each, the rest from the building thread or (views) the
// computing thread.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "base/ids.hpp"
#include "engine/tier_memory.hpp"
#include "engine/transfer.hpp"
#include "ops/matrix_view.hpp"
#include "policy/weight_layout.hpp"
#include "storage/scratch_store.hpp"
#include "weights/weight_image.hpp"
#include "weights/weight_source.hpp"

namespace flexgen {

struct WeightStoreOptions {
  DType dtype = DType::float32;
  bool pin = true;  // dram homes
  ImageThreads threads = {};
};

class WeightStore {
 public:
  /// Takes Piece::weights_home on gpu and ssd. Keeps the source: extents of ssd weights that are read in place stay
  /// open.
  WeightStore(std::vector<LayerDescription> layers, WeightLayout layout, std::shared_ptr<WeightSource> source,
              WeightStoreOptions options, TierMemory& memory);

  /// Takes the dram homes and reads everything to its home. Errors name file and tensor; does_not_fit where a table
  /// that a GPU is to look up cannot be pinned.
  void fill(Tracer* tracer);

  bool has_load(LayerId layer) const { return !layout_.layers[layer.index()].loads.empty(); }
  bool uses_disk() const { return layout_.ssd_bytes > 0; }
  std::uint64_t slot_bytes() const { return layout_.slot_bytes; }
  /// Disk taken in --offload-dir; what is read in place takes none.
  std::uint64_t scratch_bytes() const { return scratch_.file_bytes(); }

  /// Brings to `slot` what lies in dram and on ssd of the layer's weights that are not resident.
  void load(LayerId layer, std::byte* slot, Transfer& transfer) const;
  /// And the part of them that lies on the gpu tier: of weights that are cut. On a stream of its own, or the links
  /// would wait for it.
  bool has_gpu_part(LayerId layer) const;
  void load_gpu_part(LayerId layer, std::byte* slot, Transfer& transfer) const;
  /// The layer's weights, in the order of its description; of a table that is cut, the first rows.
  std::vector<MatrixView> views(LayerId layer, std::byte* slot) const;
  /// In the same order the rows that follow those of `views`, for most weights none; empty when it is none for all.
  std::vector<MatrixView> rests(LayerId layer) const;

 private:
  struct PackHome {
    std::byte* gpu = nullptr;
    HostPiece dram;
    std::vector<FileExtent> extents;  // of the ssd part, in order, gaps of alignment included
    ScratchRegion scratch;
    bool in_place = false;
  };
  class Homes;
  class HomeSink;
  void require_readable(std::size_t pack) const;
  void plan_disk();
  bool find_in_place(std::size_t pack, std::vector<FileExtent>& extents) const;
  void take_home(std::size_t pack);
  std::vector<WeightImage> images() const;
  std::vector<ImagePart> parts(std::span<const WeightImage> images) const;
  bool is_staged(const ImagePart& part) const;
  void load_from_disk(const PackHome& home, std::uint64_t begin, std::uint64_t end, std::byte* to,
                      Transfer& transfer) const;

  std::vector<LayerDescription> layers_;
  WeightLayout layout_;
  std::shared_ptr<WeightSource> source_;
  WeightStoreOptions options_;
  TierMemory& memory_;
  DiskPiece scratch_;      // before packs_: regions go back to it
  CountedBytes in_place_;  // what is read where the checkpoint has it
  std::vector<PackHome> packs_;
};

}  // namespace flexgen

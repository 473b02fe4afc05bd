// What a rank owns of a model, as far as planning goes: its layers and the scratch of their computation. Made by
// src/model, read by the memory plan. Plain data and one function, to be asked for any policy without making layers.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <utility>
#include <vector>

#include "spec/layer_description.hpp"
#include "spec/policy.hpp"

namespace flexgen {

/// The contiguous part of a model that one rank owns.
struct SliceBounds {
  std::int32_t first_decoder_layer = 0;
  std::int32_t num_decoder_layers = 0;
  bool has_embedding = true;
  bool has_head = true;
};

/// Upper bounds of one call of a layer. A call of a head has `rows` outputs.
struct CallSizes {
  std::int64_t rows = 0;
  std::int64_t tokens = 0;
  std::int64_t longest = 0;  // positions of a row that brings several tokens, those of the cache included
  bool samples = false;      // tokens are drawn (host scratch alone differs)
};

/// Which calls run on the host: all of a slice there, or for a slice on a GPU the attention of rows that decode.
enum class HostCalls : std::uint8_t { all, decode_attention };

/// The layers of a slice. Copies share them: a search over policies copies plans by the thousand.
class LayerList {
 public:
  LayerList() : LayerList(std::vector<LayerDescription>{}) {}
  LayerList(std::vector<LayerDescription> layers)  // NOLINT(google-explicit-constructor): the same, shared
      : layers_(std::make_shared<const std::vector<LayerDescription>>(std::move(layers))) {}

  const std::vector<LayerDescription>& all() const { return *layers_; }
  auto begin() const { return layers_->begin(); }
  auto end() const { return layers_->end(); }
  std::size_t size() const { return layers_->size(); }
  const LayerDescription& operator[](std::size_t index) const { return (*layers_)[index]; }

 private:
  std::shared_ptr<const std::vector<LayerDescription>> layers_;
};

/// A slice on its device.
struct SliceDescription {
  LayerList layers;
  bool on_gpu = false;              // the gpu tier is real
  bool reads_pinned_memory = true;  // the device's kernels read pinned host memory
  /// Scratch of the ops on the device for one call of any of the layers. Empty: none. Thread-safe.
  std::function<std::uint64_t(const BlockShape& block, const CallSizes& largest)> workspace_bytes;
  /// Scratch of the ops of one thread of the host, for any one of the calls there, and to compress a row of a weight.
  /// `largest.longest` is here that of all rows. Empty: none. Thread-safe.
  std::function<std::uint64_t(const BlockShape& block, const CallSizes& largest, HostCalls calls)> host_scratch_bytes;
  std::int32_t num_loop_threads = 1;  // of the host's ops, the caller of a loop included
};

}  // namespace flexgen

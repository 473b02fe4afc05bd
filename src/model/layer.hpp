// A layer of the sweep: what it holds and how it computes. Stateless: weights, cache and hidden states are handed in.
//
// Hidden states are packed [tokens, hidden] (batch_view.hpp). A layer computes in place: `hidden` is input and output.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "ops/batch_view.hpp"
#include "ops/context.hpp"
#include "ops/matrix_view.hpp"
#include "spec/layer_description.hpp"
#include "spec/model_spec.hpp"
#include "spec/policy.hpp"
#include "spec/slice_description.hpp"

namespace flexgen {

/// One call: a layer on a micro-batch. All memory is of the computing device.
struct LayerCall {
  std::span<const MatrixView> weights;  // in the order of the description
  std::span<const MatrixView> rests;    // of the same, rows of a table that lie apart (TableView); may be empty
  BatchView batch;
  MatrixView hidden;                          // [tokens, hidden], in and out
  const std::int32_t* token_ids = nullptr;    // [tokens]; embedding
  const std::int32_t* positions = nullptr;    // [tokens], 0-based; embedding
  KvView cache;                               // attention
  float attention_sparsity = 1;               // of decode attention; AttentionArgs::sparsity
  const std::int32_t* output_rows = nullptr;  // [num_outputs] packed rows whose logits are wanted; head
  std::int32_t num_outputs = 0;               // at most max_outputs_of_call
  MatrixView logits;                          // [num_outputs, vocab] float32, out; head

  // A call in two halves, `project` and `finish`, with attention between them:
  MatrixView projected;  // [tokens, 3 * hidden]: query, key and value
  MatrixView attended;   // [tokens, hidden]: what attention makes of them
};

/// A head is called for so many outputs at most: logits of more lie in ranges, one after another.
inline constexpr std::int64_t max_outputs_of_call = 512;

class Layer {
 public:
  explicit Layer(LayerDescription description) : description_(std::move(description)) {}
  virtual ~Layer() = default;

  const LayerDescription& description() const { return description_; }

  /// Takes its scratch from the context's workspace: at most workspace_bytes for such a micro-batch, a head's logits,
  /// which its caller takes, included.
  virtual void forward(const OpContext& context, const LayerCall& call) const = 0;

  /// forward = project, attention of the rows that `batch` leaves out, finish. `batch` and `cache` are those of the
  /// first rows, whose attention `project` itself does. Only layers with a cache.
  virtual void project(const OpContext& context, const LayerCall& call) const;
  virtual void finish(const OpContext& context, const LayerCall& call) const;
  virtual std::uint64_t workspace_bytes(const Device& device, const BlockShape& block,
                                        const CallSizes& sizes) const = 0;

 protected:
  /// Of the description, for the layer's parts to list theirs in.
  std::vector<WeightSpec>& weights() { return description_.weights; }

 private:
  LayerDescription description_;
};

using Layers = std::vector<std::unique_ptr<Layer>>;

/// The layers of a slice, in order. `separate_layers`: attention and mlp are two layers, else one block.
Layers make_layers(const ModelSpec& spec, const SliceBounds& bounds, bool separate_layers);

std::vector<LayerDescription> describe(const Layers& layers);

/// Number of parameters of the whole model (a tied head counts once).
std::uint64_t num_parameters(const ModelSpec& spec);

/// Cuts the decoder layers into `num_stages` contiguous slices that balance bytes, embedding and head included.
/// Every stage gets at least one decoder layer; throws UserError (usage) with more stages than decoder layers.
std::vector<SliceBounds> balanced_slices(const ModelSpec& spec, std::int32_t num_stages);

}  // namespace flexgen

#include "model/opt.hpp"

#include <algorithm>
#include <optional>

#include "base/bytes.hpp"
#include "base/error.hpp"
#include "model/opt_weights.hpp"
#include "ops/attention.hpp"
#include "ops/elementwise.hpp"
#include "ops/embedding.hpp"
#include "ops/layer_norm.hpp"
#include "ops/linear.hpp"
#include "ops/sampling.hpp"

namespace flexgen {
namespace {

// Hands out a call's weights in the order in which the description names them.
class WeightReader {
 public:
  explicit WeightReader(std::span<const MatrixView> weights, std::span<const MatrixView> rests = {})
      : weights_(weights), rests_(rests) {}

  const MatrixView& matrix() {
    FLEXGEN_CHECK(next_ < weights_.size(), "layer was given too few weights");
    return weights_[next_++];
  }
  TableView table() {
    const std::size_t at = next_;
    return at < rests_.size() ? TableView(matrix(), rests_[at]) : TableView(matrix());
  }
  std::optional<MatrixView> optional(bool present) { return present ? std::optional(matrix()) : std::nullopt; }

 private:
  std::span<const MatrixView> weights_, rests_;
  std::size_t next_ = 0;
};

struct Linear {
  MatrixView weight;
  std::optional<MatrixView> bias;
};
struct Norm {
  std::optional<MatrixView> gamma;
  std::optional<MatrixView> beta;
};

Linear read_linear(WeightReader& reader, const ModelSpec& spec) {
  Linear part;
  part.weight = reader.matrix();
  part.bias = reader.optional(spec.attention.bias);
  return part;
}
Norm read_norm(WeightReader& reader, const ModelSpec& spec) {
  Norm part;
  part.gamma = reader.optional(spec.norm.affine);
  part.beta = reader.optional(spec.norm.affine);
  return part;
}

MatrixView scratch(const OpContext& context, std::int64_t rows, std::int64_t cols, DType dtype, const char* purpose) {
  const std::uint64_t bytes = static_cast<std::uint64_t>(rows * cols) * element_bytes(dtype);
  return contiguous_view(context.workspace->take(bytes, purpose), rows, cols, dtype);
}

std::uint64_t scratch_bytes(std::int64_t rows, std::int64_t cols, DType dtype) {
  return align_up(static_cast<std::uint64_t>(rows * cols) * element_bytes(dtype), 256);
}

void apply_norm(const OpContext& context, const Norm& norm, const MatrixView& x, const MatrixView& out) {
  layer_norm(context, {x, norm.gamma, norm.beta, 1e-5F, out});
}

struct AttentionWeights {
  Linear qkv;
  Linear out;
  Norm norm;
};

AttentionWeights read_attention(WeightReader& weights, const ModelSpec& spec) {
  AttentionWeights part;
  part.qkv = read_linear(weights, spec);
  part.out = read_linear(weights, spec);
  part.norm = read_norm(weights, spec);
  return part;
}

// norm(hidden) -> projected [tokens, 3 * hidden]; the rows of call.batch attend, into `attended` [tokens, hidden].
void project_and_attend(const OpContext& context, const ModelSpec& spec, const AttentionWeights& weights,
                        const LayerCall& call, const MatrixView& projected, const MatrixView& attended) {
  const std::int64_t h = spec.hidden;
  if (spec.residual == Residual::pre) apply_norm(context, weights.norm, call.hidden, attended);
  linear(context, {spec.residual == Residual::pre ? attended : call.hidden, weights.qkv.weight, weights.qkv.bias,
                   Activation::none, std::nullopt, projected});
  if (call.batch.num_rows == 0) return;
  const MatrixView tokens = projected.row_range(0, call.batch.num_tokens);
  append_kv(context, call.batch, tokens.col_range(h, h), tokens.col_range(2 * h, h), call.cache);

  AttentionArgs args;
  args.batch = call.batch;
  args.q = tokens.col_range(0, h);
  args.cache = call.cache;
  args.scale = spec.attention.scale;
  args.sparsity = call.attention_sparsity;
  args.out = attended.row_range(0, call.batch.num_tokens);
  attention(context, args);
}

void finish_attention(const OpContext& context, const ModelSpec& spec, const AttentionWeights& weights,
                      const MatrixView& hidden, const MatrixView& attended) {
  linear(context, {attended, weights.out.weight, weights.out.bias, Activation::none, hidden, hidden});
  if (spec.residual == Residual::post) apply_norm(context, weights.norm, hidden, hidden);
}

// hidden += attention(norm(hidden)); post-norm: hidden = norm(hidden + attention(hidden))
void attention_sublayer(const OpContext& context, const ModelSpec& spec, WeightReader& reader, const LayerCall& call) {
  const AttentionWeights weights = read_attention(reader, spec);
  const MatrixView& hidden = call.hidden;  // [tokens, hidden]
  const Workspace::Scope scope(*context.workspace);
  const MatrixView attended = scratch(context, hidden.rows, spec.hidden, hidden.dtype, "attention output");
  const MatrixView projected = scratch(context, hidden.rows, 3LL * spec.hidden, hidden.dtype, "qkv");
  project_and_attend(context, spec, weights, call, projected, attended);
  finish_attention(context, spec, weights, hidden, attended);
}

// hidden += fc2(act(fc1(norm(hidden)))); post-norm: hidden = norm(hidden + fc2(act(fc1(hidden))))
void mlp_sublayer(const OpContext& context, const ModelSpec& spec, WeightReader& weights, const LayerCall& call) {
  const Linear fc1 = read_linear(weights, spec);
  const Linear fc2 = read_linear(weights, spec);
  const Norm norm = read_norm(weights, spec);
  const MatrixView& hidden = call.hidden;  // [tokens, hidden]
  const Workspace::Scope scope(*context.workspace);

  MatrixView input = hidden;
  if (spec.residual == Residual::pre) {
    input = scratch(context, hidden.rows, spec.hidden, hidden.dtype, "mlp input");
    apply_norm(context, norm, hidden, input);
  }
  const MatrixView inner = scratch(context, hidden.rows, spec.mlp.width, hidden.dtype, "mlp inner");  // [tokens, ffn]
  const Activation activation = spec.mlp.activation == ActivationKind::gelu ? Activation::gelu : Activation::relu;
  linear(context, {input, fc1.weight, fc1.bias, activation, std::nullopt, inner});
  linear(context, {inner, fc2.weight, fc2.bias, Activation::none, hidden, hidden});
  if (spec.residual == Residual::post) apply_norm(context, norm, hidden, hidden);
}

std::uint64_t attention_scratch(const ModelSpec& spec, const Device& device, const Policy& policy,
                                const CallSizes& sizes) {
  const DType dtype = policy.dtype;
  return scratch_bytes(sizes.tokens, spec.hidden, dtype) + scratch_bytes(sizes.tokens, 3LL * spec.hidden, dtype) +
         align_up(attention_workspace_bytes(device, sizes.tokens, sizes.rows, spec.attention.heads,
                                            spec.attention.head_size, dtype, policy.cache_format, sizes.longest),
                  256);
}

std::uint64_t mlp_scratch(const ModelSpec& spec, DType dtype, std::int64_t tokens) {
  return scratch_bytes(tokens, spec.hidden, dtype) + scratch_bytes(tokens, spec.mlp.width, dtype);
}

class OptEmbedding final : public Layer {
 public:
  explicit OptEmbedding(const ModelSpec& spec)
      : Layer({LayerKind::embedding, -1, "embedding", opt_embedding_weights(spec)}), spec_(spec) {}

  void forward(const OpContext& context, const LayerCall& call) const override {
    WeightReader weights(call.weights, call.rests);
    const TableView tokens = weights.table();
    const TableView positions = weights.table().row_range(spec_.embedding.first_position, spec_.max_positions);
    if (spec_.has_projections()) {
      const Workspace::Scope scope(*context.workspace);
      const MatrixView narrow =
          scratch(context, call.hidden.rows, spec_.embedding.width, call.hidden.dtype, "embedding");
      gather_rows(context, tokens, call.token_ids, narrow);
      linear(context, {narrow, weights.matrix(), std::nullopt, Activation::none, std::nullopt, call.hidden});
    } else {
      gather_rows(context, tokens, call.token_ids, call.hidden);
    }
    add_gathered_rows(context, positions, call.positions, call.hidden);
  }

  std::uint64_t workspace_bytes(const Device&, const Policy& policy, const CallSizes& sizes) const override {
    return spec_.has_projections() ? scratch_bytes(sizes.tokens, spec_.embedding.width, policy.dtype) : 0;
  }

 private:
  ModelSpec spec_;
};

class OptAttention final : public Layer {
 public:
  OptAttention(const ModelSpec& spec, std::int32_t index)
      : Layer({LayerKind::attention, index, "attention " + std::to_string(index), opt_attention_weights(spec, index)}),
        spec_(spec) {}

  void forward(const OpContext& context, const LayerCall& call) const override {
    WeightReader weights(call.weights);
    attention_sublayer(context, spec_, weights, call);
  }
  void project(const OpContext& context, const LayerCall& call) const override {
    WeightReader weights(call.weights);
    project_and_attend(context, spec_, read_attention(weights, spec_), call, call.projected, call.attended);
  }
  void finish(const OpContext& context, const LayerCall& call) const override {
    WeightReader weights(call.weights);
    finish_attention(context, spec_, read_attention(weights, spec_), call.hidden, call.attended);
  }
  std::uint64_t workspace_bytes(const Device& device, const Policy& policy, const CallSizes& sizes) const override {
    return attention_scratch(spec_, device, policy, sizes);
  }

 private:
  ModelSpec spec_;
};

class OptMlp final : public Layer {
 public:
  OptMlp(const ModelSpec& spec, std::int32_t index)
      : Layer({LayerKind::mlp, index, "mlp " + std::to_string(index), opt_mlp_weights(spec, index)}), spec_(spec) {}

  void forward(const OpContext& context, const LayerCall& call) const override {
    WeightReader weights(call.weights);
    mlp_sublayer(context, spec_, weights, call);
  }
  std::uint64_t workspace_bytes(const Device&, const Policy& policy, const CallSizes& sizes) const override {
    return mlp_scratch(spec_, policy.dtype, sizes.tokens);
  }

 private:
  ModelSpec spec_;
};

std::vector<WeightSpec> block_weights(const ModelSpec& spec, std::int32_t index) {
  std::vector<WeightSpec> weights = opt_attention_weights(spec, index);
  const auto before = static_cast<std::int32_t>(weights.size());
  for (WeightSpec& weight : opt_mlp_weights(spec, index)) {
    if (weight.mean_input >= 0) weight.mean_input += before;
    weights.push_back(std::move(weight));
  }
  return weights;
}

class OptBlock final : public Layer {
 public:
  OptBlock(const ModelSpec& spec, std::int32_t index)
      : Layer({LayerKind::block, index, "block " + std::to_string(index), block_weights(spec, index)}), spec_(spec) {}

  void forward(const OpContext& context, const LayerCall& call) const override {
    WeightReader weights(call.weights);
    attention_sublayer(context, spec_, weights, call);
    mlp_sublayer(context, spec_, weights, call);
  }
  void project(const OpContext& context, const LayerCall& call) const override {
    WeightReader weights(call.weights);
    project_and_attend(context, spec_, read_attention(weights, spec_), call, call.projected, call.attended);
  }
  void finish(const OpContext& context, const LayerCall& call) const override {
    WeightReader weights(call.weights);
    finish_attention(context, spec_, read_attention(weights, spec_), call.hidden, call.attended);
    mlp_sublayer(context, spec_, weights, call);
  }
  std::uint64_t workspace_bytes(const Device& device, const Policy& policy, const CallSizes& sizes) const override {
    return std::max(attention_scratch(spec_, device, policy, sizes), mlp_scratch(spec_, policy.dtype, sizes.tokens));
  }

 private:
  ModelSpec spec_;
};

class OptHead final : public Layer {
 public:
  explicit OptHead(const ModelSpec& spec) : Layer({LayerKind::head, -1, "head", opt_head_weights(spec)}), spec_(spec) {}

  void forward(const OpContext& context, const LayerCall& call) const override {
    // Scored prompts want logits of every position: as many at a time as there is room for.
    const auto room = static_cast<std::int64_t>((context.workspace->size_bytes() - context.workspace->used_bytes()) /
                                                output_bytes(call.hidden.dtype));
    const std::int64_t most = std::clamp<std::int64_t>(room, 1, max_outputs_at_once);
    for (std::int64_t first = 0; first < call.num_outputs; first += most)
      compute_outputs(context, call, first, std::min<std::int64_t>(most, call.num_outputs - first));
  }

  std::uint64_t workspace_bytes(const Device&, const Policy& policy, const CallSizes& sizes) const override {
    return static_cast<std::uint64_t>(std::min(sizes.rows, max_outputs_at_once)) * output_bytes(policy.dtype);
  }

 private:
  static constexpr std::int64_t max_outputs_at_once = 512;

  // Scratch of one position whose logits are wanted.
  std::uint64_t output_bytes(DType dtype) const {
    return scratch_bytes(1, spec_.hidden, dtype) + scratch_bytes(1, spec_.embedding.width, dtype) +
           scratch_bytes(1, spec_.vocab, DType::float32);
  }

  void compute_outputs(const OpContext& context, const LayerCall& call, std::int64_t first, std::int64_t count) const {
    WeightReader weights(call.weights);
    const Norm norm = spec_.head.norm ? read_norm(weights, spec_) : Norm{};
    const Workspace::Scope scope(*context.workspace);

    // Only the positions whose logits are wanted go on: [outputs, hidden].
    MatrixView last = scratch(context, count, spec_.hidden, call.hidden.dtype, "head input");
    gather_rows(context, call.hidden, call.output_rows + first, last);
    if (spec_.head.norm) apply_norm(context, norm, last, last);
    if (spec_.has_projections()) {
      const MatrixView narrow = scratch(context, count, spec_.embedding.width, call.hidden.dtype, "head narrow");
      linear(context, {last, weights.matrix(), std::nullopt, Activation::none, std::nullopt, narrow});
      last = narrow;
    }
    const MatrixView logits = call.logits.data ? call.logits.row_range(first, count)
                                               : scratch(context, count, spec_.vocab, DType::float32, "logits");
    linear(context, {last, weights.matrix(), std::nullopt, Activation::none, std::nullopt, logits});
    argmax_rows(context, logits, call.next_tokens + first);
    if (call.targets) log_probabilities(context, logits, call.targets + first, call.scores + first);
  }

  ModelSpec spec_;
};

}  // namespace

Layers make_opt_layers(const ModelSpec& spec, const SliceBounds& bounds, bool separate_layers) {
  Layers layers;
  if (bounds.has_embedding) layers.push_back(std::make_unique<OptEmbedding>(spec));
  for (std::int32_t i = 0; i < bounds.num_decoder_layers; ++i) {
    const std::int32_t index = bounds.first_decoder_layer + i;
    if (separate_layers) {
      layers.push_back(std::make_unique<OptAttention>(spec, index));
      layers.push_back(std::make_unique<OptMlp>(spec, index));
    } else {
      layers.push_back(std::make_unique<OptBlock>(spec, index));
    }
  }
  if (bounds.has_head) layers.push_back(std::make_unique<OptHead>(spec));
  return layers;
}

}  // namespace flexgen

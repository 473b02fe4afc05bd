#include "model/decoder/mlp.hpp"

#include <array>

#include "model/decoder/scratch.hpp"

namespace flexgen {
namespace {

Activation activation_of(ActivationKind kind) {
  return kind == ActivationKind::gelu ? Activation::gelu : Activation::relu;
}

}  // namespace

MlpPart::MlpPart(const ModelSpec& model, const CheckpointNames& names, WeightList list)
    : spec_(model.mlp),
      hidden_(model.hidden),
      residual_(model.residual),
      in_("fc1", std::array{LinearPart::Rows{names.mlp_in, spec_.width}}, hidden_, spec_.bias, list),
      out_("fc2", std::array{LinearPart::Rows{names.mlp_out, hidden_}}, spec_.width, spec_.bias, list),
      norm_(model.norm, hidden_, "norm", {&names.mlp_norm, 1}, list) {
  if (residual_ != Residual::post) in_.set_fed_by(norm_, list);
}

void MlpPart::forward(const OpContext& context, const LayerCall& call) const {
  const MatrixView& hidden = call.hidden;  // [tokens, hidden]
  const Workspace::Scope scope(*context.workspace);
  MatrixView input = hidden;
  if (residual_ != Residual::post) {
    input = take_scratch(context, hidden.rows, hidden_, hidden.dtype, "mlp input");
    norm_.apply(context, call.weights, hidden, input);
  }
  const MatrixView inner = take_scratch(context, hidden.rows, spec_.width, hidden.dtype, "mlp inner");
  in_.apply(context, call.weights, input, inner, {.activation = activation_of(spec_.activation)});
  out_.apply(context, call.weights, inner, hidden, {.residual = hidden});
  if (residual_ == Residual::post) norm_.apply(context, call.weights, hidden, hidden);
}

std::uint64_t MlpPart::workspace_bytes(const BlockShape& block, const CallSizes& sizes) const {
  return scratch_bytes(sizes.tokens, hidden_, block.dtype) + scratch_bytes(sizes.tokens, spec_.width, block.dtype);
}

}  // namespace flexgen

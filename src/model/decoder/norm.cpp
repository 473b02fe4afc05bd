#include "model/decoder/norm.hpp"

#include "ops/layer_norm.hpp"

namespace flexgen {

Norm::Norm(const NormSpec& spec, std::int64_t width, const std::string& name, std::span<const std::string> stems,
           WeightList& list)
    : spec_(spec) {
  if (!spec.affine) return;
  std::vector<std::string> gamma_keys;
  std::vector<std::string> beta_keys;
  for (const std::string& stem : stems) {
    for (std::string& key : list.keys(stem + ".weight")) gamma_keys.push_back(std::move(key));
    for (std::string& key : list.keys(stem + ".bias")) beta_keys.push_back(std::move(key));
  }
  gamma_ = list.add(name + ".weight", 1, width, std::move(gamma_keys));
  list[*gamma_].random_center = 1;
  beta_ = list.add(name + ".bias", 1, width, std::move(beta_keys));
}

void Norm::apply(const OpContext& context, std::span<const MatrixView> weights, const MatrixView& x,
                 const MatrixView& out) const {
  LayerNormArgs args;
  args.x = x;
  if (gamma_) args.gamma = weights[*gamma_];
  if (beta_) args.beta = weights[*beta_];
  args.epsilon = spec_.epsilon;
  args.out = out;
  layer_norm(context, args);
}

}  // namespace flexgen

#include "ops/layer_norm.hpp"

#include "ops/dispatch.hpp"
#include "ops/host/host_ops.hpp"
#ifdef FLEXGEN_HAS_CUDA
#include "ops/cuda/cuda_kernels.hpp"
#endif

namespace flexgen {

void layer_norm(const OpContext& context, const LayerNormArgs& args) {
  const DType dtype = args.x.dtype;
  check_view(args.x, args.x.rows, args.x.cols, dtype, "layer_norm: x");
  check_view(args.out, args.x.rows, args.x.cols, dtype, "layer_norm: out");
  if (args.gamma) check_view(*args.gamma, 1, args.x.cols, dtype, "layer_norm: gamma");
  if (args.beta) check_view(*args.beta, 1, args.x.cols, dtype, "layer_norm: beta");
  if (args.x.rows == 0 || args.x.cols == 0) return;
  switch (choose_implementation(context, "layer_norm")) {
    case Implementation::reference: layer_norm_reference(args); return;
    case Implementation::host: layer_norm_host(args); return;
    case Implementation::cuda:
#ifdef FLEXGEN_HAS_CUDA
      layer_norm_cuda(context, args);
#endif
      return;
  }
}

}  // namespace flexgen

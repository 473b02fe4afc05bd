// cuBLASLt is column-major: out^T [out, tokens] = weight [out, in] * x^T [in, tokens], with weight as the transposed
// operand. Sums and split-K reductions stay in float32; TF32 is never chosen.
#include "ops/cuda/linear/cublas.hpp"

#include <cublasLt.h>
#include <fmt/core.h>

#include <algorithm>
#include <array>
#include <map>
#include <memory>
#include <mutex>

#include "base/error.hpp"
#include "device/cuda_check.hpp"

namespace flexgen {
namespace {

constexpr std::size_t kMaxChoices = 4096;

void check_cublas(cublasStatus_t status, const char* call) {
  if (status == CUBLAS_STATUS_SUCCESS) [[likely]]
    return;
  throw SystemError(ExitCode::internal, call, cublasLtGetStatusString(status));
}
#define FLEXGEN_CUBLAS_CALL(call) check_cublas((call), #call)

cudaDataType_t cuda_type(DType dtype) {
  switch (dtype) {
    case DType::float32: return CUDA_R_32F;
    case DType::float16: return CUDA_R_16F;
    case DType::bfloat16: return CUDA_R_16BF;
    case DType::float64: return CUDA_R_64F;
  }
  return CUDA_R_32F;
}

/// Largest power of two up to 256 that divides the address: cuBLASLt must not assume more.
std::uint32_t alignment_of(const std::byte* data) {
  const auto address = reinterpret_cast<std::uintptr_t>(data);
  return static_cast<std::uint32_t>(std::min<std::uintptr_t>(256, address & (~address + 1)));
}

/// All that an algorithm's choice depends on.
using ChoiceKey = std::array<std::int64_t, 17>;

/// One handle per device, and the algorithms chosen so far. Thread-safe.
class Library {
 public:
  explicit Library(int device) : device_(device) { FLEXGEN_CUBLAS_CALL(cublasLtCreate(&handle_)); }
  cublasLtHandle_t handle() const { return handle_; }

  template <class Choose>
  cublasLtMatmulAlgo_t algorithm(const ChoiceKey& key, const Choose& choose) {
    const std::lock_guard lock(mutex_);
    const auto found = choices_.find(key);
    if (found != choices_.end()) return found->second;
    if (choices_.size() >= kMaxChoices) choices_.clear();
    return choices_.emplace(key, choose()).first->second;
  }

  /// Libraries live as long as the process: the driver may be gone when statics are destroyed.
  static Library& of(int device) {
    static std::mutex mutex;
    static auto& libraries = *new std::map<int, std::unique_ptr<Library>>;
    const std::lock_guard lock(mutex);
    std::unique_ptr<Library>& library = libraries[device];
    if (!library) library = std::make_unique<Library>(device);
    return *library;
  }

 private:
  int device_;
  cublasLtHandle_t handle_ = nullptr;
  std::mutex mutex_;
  std::map<ChoiceKey, cublasLtMatmulAlgo_t> choices_;
};

struct Layout {
  cublasLtMatrixLayoutOpaque_t value;
  Layout(DType dtype, std::int64_t rows, std::int64_t cols, std::int64_t stride) {
    FLEXGEN_CUBLAS_CALL(cublasLtMatrixLayoutInit(&value, cuda_type(dtype), static_cast<std::uint64_t>(rows),
                                                 static_cast<std::uint64_t>(cols), stride));
  }
};

template <class T>
void set(cublasLtMatmulDescOpaque_t& desc, cublasLtMatmulDescAttributes_t attribute, const T& value) {
  FLEXGEN_CUBLAS_CALL(cublasLtMatmulDescSetAttribute(&desc, attribute, &value, sizeof value));
}
template <class T>
void set(cublasLtMatmulPreferenceOpaque_t& preference, cublasLtMatmulPreferenceAttributes_t attribute, const T& value) {
  FLEXGEN_CUBLAS_CALL(cublasLtMatmulPreferenceSetAttribute(&preference, attribute, &value, sizeof value));
}

/// A view of one row may carry any stride; cuBLASLt wants it as long as a row.
std::int64_t stride_of(const MatrixView& view) {
  return view.rows > 1 ? view.row_stride : std::max(view.row_stride, view.cols);
}

enum class Residual : std::uint8_t { none, fused };

/// out = x * weight^T [+ bias] [relu] [+ residual], the part that cuBLASLt fuses.
struct Product {
  const LinearArgs& args;
  MatrixView out;
  cublasLtEpilogue_t epilogue;
  Residual residual;

  bool has_bias() const { return epilogue == CUBLASLT_EPILOGUE_BIAS || epilogue == CUBLASLT_EPILOGUE_RELU_BIAS; }
  const MatrixView& added() const { return residual == Residual::fused ? *args.residual : out; }
};

/// The same in the library's words.
struct Description {
  cublasLtMatmulDescOpaque_t desc;
  Layout weight, x, added, out;

  explicit Description(const Product& product)
      : weight(product.args.weight.dtype, product.args.weight.cols, product.args.weight.rows,
               stride_of(product.args.weight)),
        x(product.args.x.dtype, product.args.x.cols, product.args.x.rows, stride_of(product.args.x)),
        added(product.added().dtype, product.added().cols, product.added().rows, stride_of(product.added())),
        out(product.out.dtype, product.out.cols, product.out.rows, stride_of(product.out)) {
    FLEXGEN_CUBLAS_CALL(cublasLtMatmulDescInit(&desc, CUBLAS_COMPUTE_32F, CUDA_R_32F));
    set(desc, CUBLASLT_MATMUL_DESC_TRANSA, CUBLAS_OP_T);
    set(desc, CUBLASLT_MATMUL_DESC_EPILOGUE, product.epilogue);
    if (!product.has_bias()) return;
    set(desc, CUBLASLT_MATMUL_DESC_BIAS_POINTER, static_cast<const void*>(product.args.bias->data));
    set(desc, CUBLASLT_MATMUL_DESC_BIAS_DATA_TYPE, cuda_type(product.args.bias->dtype));
  }
};

/// All that the choice of an algorithm depends on.
ChoiceKey key_of(const Product& product, std::uint64_t scratch_bytes) {
  const MatrixView &weight = product.args.weight, &x = product.args.x;
  return {weight.rows,
          weight.cols,
          x.rows,
          stride_of(weight),
          stride_of(x),
          stride_of(product.added()),
          stride_of(product.out),
          static_cast<std::int64_t>(x.dtype),
          static_cast<std::int64_t>(product.out.dtype),
          static_cast<std::int64_t>(product.epilogue),
          product.residual == Residual::fused,
          alignment_of(weight.data),
          alignment_of(x.data),
          alignment_of(product.added().data),
          alignment_of(product.out.data),
          product.has_bias() ? alignment_of(product.args.bias->data) : 0,
          static_cast<std::int64_t>(scratch_bytes)};
}

cublasLtMatmulAlgo_t choose_algorithm(const Library& library, const Product& product, Description& description,
                                      std::uint64_t scratch_bytes) {
  const MatrixView &weight = product.args.weight, &x = product.args.x;
  cublasLtMatmulPreferenceOpaque_t preference;
  FLEXGEN_CUBLAS_CALL(cublasLtMatmulPreferenceInit(&preference));
  set(preference, CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, scratch_bytes);
  set(preference, CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK,
      static_cast<std::uint32_t>(CUBLASLT_REDUCTION_SCHEME_COMPUTE_TYPE));
  set(preference, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES, alignment_of(weight.data));
  set(preference, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES, alignment_of(x.data));
  set(preference, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES, alignment_of(product.added().data));
  set(preference, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES, alignment_of(product.out.data));
  cublasLtMatmulHeuristicResult_t result{};
  int found = 0;
  FLEXGEN_CUBLAS_CALL(cublasLtMatmulAlgoGetHeuristic(library.handle(), &description.desc, &description.weight.value,
                                                     &description.x.value, &description.added.value,
                                                     &description.out.value, &preference, 1, &result, &found));
  FLEXGEN_CHECK(found > 0, fmt::format("cuBLASLt has no algorithm for [{}, {}] x [{}, {}]^T in {}", x.rows, x.cols,
                                       weight.rows, weight.cols, dtype_name(x.dtype)));
  return result.algo;
}

void multiply(const OpContext& context, const Product& product) {
  Workspace empty;
  Workspace& workspace = context.workspace != nullptr ? *context.workspace : empty;
  const Workspace::Scope scope(workspace);
  const std::uint64_t free_bytes = workspace.size_bytes() - workspace.used_bytes();
  const std::uint64_t scratch_bytes = std::min(blas_workspace_bytes, free_bytes > 256 ? free_bytes - 256 : 0);
  std::byte* scratch = scratch_bytes > 0 ? workspace.take(scratch_bytes, "linear") : nullptr;

  Description description(product);
  Library& library = Library::of(context.device.index);
  const cublasLtMatmulAlgo_t algorithm = library.algorithm(
      key_of(product, scratch_bytes), [&] { return choose_algorithm(library, product, description, scratch_bytes); });
  const float one = 1.0F;
  const float beta = product.residual == Residual::fused ? 1.0F : 0.0F;
  FLEXGEN_CUBLAS_CALL(cublasLtMatmul(library.handle(), &description.desc, &one, product.args.weight.data,
                                     &description.weight.value, product.args.x.data, &description.x.value, &beta,
                                     product.added().data, &description.added.value, product.out.data,
                                     &description.out.value, &algorithm, scratch, scratch_bytes,
                                     static_cast<cudaStream_t>(context.stream)));
}

}  // namespace

void linear_cublas(const OpContext& context, const LinearArgs& args) {
  const bool same_dtype = args.out.dtype == args.x.dtype;
  const bool fuse_bias = args.bias && same_dtype && alignment_of(args.bias->data) >= 16;
  const bool bias_left = args.bias && !fuse_bias;
  const bool fuse_relu = args.activation == Activation::relu && !bias_left;
  const bool activation_left = args.activation != Activation::none && !fuse_relu;
  const bool fuse_residual = args.residual && same_dtype && args.activation == Activation::none;
  const bool residual_left = args.residual && !fuse_residual;

  const Residual residual = fuse_residual ? Residual::fused : Residual::none;
  const cublasLtEpilogue_t with_bias = fuse_bias ? CUBLASLT_EPILOGUE_BIAS : CUBLASLT_EPILOGUE_DEFAULT;
  if (!bias_left && !activation_left && !residual_left) {
    const cublasLtEpilogue_t with_relu = fuse_bias ? CUBLASLT_EPILOGUE_RELU_BIAS : CUBLASLT_EPILOGUE_RELU;
    return multiply(context, {args, args.out, fuse_relu ? with_relu : with_bias, residual});
  }
  MatrixView product = args.out;
  Workspace none;
  const Workspace::Scope scope(context.workspace != nullptr ? *context.workspace : none);
  if (residual_left && args.residual->data == args.out.data) {  // the product may not overwrite the residual yet
    FLEXGEN_CHECK(context.workspace != nullptr, "linear: a residual in place, after an activation, needs a workspace");
    product = contiguous_view(context.workspace->take(args.out.size_bytes(), "a matrix product"), args.out.rows,
                              args.out.cols, args.out.dtype);
  }
  multiply(context, {args, product, with_bias, residual});
  finish_linear_cuda(context, product, bias_left ? args.bias : std::nullopt, args.activation,
                     residual_left ? args.residual : std::nullopt, args.out);
}

}  // namespace flexgen

// What every op's entry point does before the work: choose the implementation, and check the views it was given.
#pragma once

#include <string_view>

#include "base/error.hpp"
#include "ops/context.hpp"
#include "ops/matrix_view.hpp"

namespace flexgen {

enum class Implementation : std::uint8_t { reference, host, cuda };

/// Throws InternalError for what this build lacks, or the reference on a GPU's memory.
Implementation choose_implementation(const OpContext& context, std::string_view op);

/// Throws InternalError unless `view` is plain, [rows, cols] of `dtype`, with memory behind it (unless empty).
void check_view(const MatrixView& view, std::int64_t rows, std::int64_t cols, DType dtype, std::string_view name);

/// The same for an op that takes compressed matrices too.
void check_stored_view(const MatrixView& view, std::int64_t rows, std::int64_t cols, DType dtype,
                       std::string_view name);

/// Never returns normally: a build without CUDA was asked for it. (choose_implementation refuses before.)
[[noreturn]] void fail_without_cuda(std::string_view op);

}  // namespace flexgen

// What the ops that read or write the compressed form share (spec/quantization.hpp). Host memory only; any thread.
#pragma once

#include "ops/matrix_view.hpp"

namespace flexgen {

/// Throws InternalError unless `stored` has 4 or 8 bits and a group that is a multiple of 8 up to 256.
void check_format(const QuantFormat& format);
/// Throws InternalError unless the two views are of one shape, one plain, the other compressed.
void check_quantize(const MatrixView& plain, const MatrixView& compressed);

/// Elements first .. first+count-1 of a plain row to codes and parameters. False: there is a NaN or an infinity; its
/// group's parameters are then NaN.
bool quantize_run_reference(const std::byte* from, DType dtype, std::int64_t first, std::int64_t count,
                            const QuantFormat& format, int refinements, std::byte* codes, std::byte* parameters);
/// The value that element `index` of a run of codes stands for.
float stored_element(const std::byte* codes, const std::byte* parameters, const QuantFormat& format,
                     std::int64_t index);

/// Element `index` of a matrix row, plain or compressed, widened.
float row_element(const MatrixView& view, std::int64_t row, std::int64_t index);

bool quantize_rows_host(const MatrixView& from, const MatrixView& to, int refinements);
void dequantize_rows_host(const MatrixView& from, const MatrixView& to);

}  // namespace flexgen

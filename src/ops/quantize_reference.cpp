#include <algorithm>
#include <cstring>
#include <vector>

#include "ops/element_access.hpp"
#include "ops/quantize.hpp"
#include "ops/quantize_group.hpp"
#include "ops/quantize_rows.hpp"

namespace flexgen {

bool quantize_run_reference(const std::byte* from, DType dtype, std::int64_t first, std::int64_t count,
                            const QuantFormat& format, int refinements, std::byte* codes, std::byte* parameters) {
  bool finite = true;
  std::vector<std::uint8_t> code(static_cast<std::size_t>(count));
  std::vector<float> value(static_cast<std::size_t>(count));
  for (std::int64_t i = 0; i < count; ++i) value[static_cast<std::size_t>(i)] = load_element(from, dtype, first + i);
  for (std::int64_t group = 0; group < format.num_groups(count); ++group) {
    const std::int64_t begin = group * format.group;
    const auto size = static_cast<int>(std::min<std::int64_t>(format.group, count - begin));
    GroupParameters stored;
    finite &= encode_group(value.data() + begin, size, format.bits, refinements, code.data() + begin, &stored);
    const std::uint32_t word = static_cast<std::uint32_t>(stored.minimum) << 16 | stored.scale;
    std::memcpy(parameters + group * 4, &word, 4);
  }
  pack_codes(code.data(), count, format.bits, codes);
  return finite;
}

float stored_element(const std::byte* codes, const std::byte* parameters, const QuantFormat& format,
                     std::int64_t index) {
  std::uint32_t word;
  std::memcpy(&word, parameters + index / format.group * 4, 4);
  const float scale = float_from_half_bits(static_cast<std::uint16_t>(word));
  const float minimum = float_from_half_bits(static_cast<std::uint16_t>(word >> 16));
  return static_cast<float>(load_code(codes, format.bits, index)) * scale + minimum;
}

bool quantize_rows_reference(const MatrixView& from, const MatrixView& to, int refinements) {
  check_quantize(from, to);
  bool finite = true;
  for (std::int64_t r = 0; r < from.rows; ++r) {
    std::memset(to.row(r), 0, static_cast<std::size_t>(to.quant.row_bytes(to.cols)));
    finite &= quantize_run_reference(from.row(r), from.dtype, 0, from.cols, to.quant, refinements, to.row(r),
                                     to.row(r) + to.quant.row_parameter_offset(to.cols));
  }
  return finite;
}

void dequantize_rows_reference(const MatrixView& from, const MatrixView& to) {
  check_quantize(to, from);
  for (std::int64_t r = 0; r < from.rows; ++r) {
    const std::byte* parameters = from.row(r) + from.quant.row_parameter_offset(from.cols);
    for (std::int64_t c = 0; c < from.cols; ++c)
      store_element(to.row(r), to.dtype, c, stored_element(from.row(r), parameters, from.quant, c));
  }
}

}  // namespace flexgen

// The stored form of compressed matrices and caches: codes of 4 or 8 bits in groups, each with a scale and a minimum.
//
// A value is minimum + code * scale, in float32. Groups run along a row of a matrix (the input dimension of weights,
// the head dimension of keys and values); the last group of a row may be shorter. Both parameters are float16, the
// scale in the lower half of a 32-bit word.
// Codes of 4 bits: eight consecutive elements share a little-endian 32-bit word, element 2i in bits 4i .. 4i+3, element
// 2i+1 in bits 16+4i .. 16+4i+3, so that a shift and a mask give two neighbours in the halves of a register. Codes of
// 8 bits are bytes in order. A row of codes is padded with zeros to whole words of eight elements.
//
// A matrix row: [codes, to 16 bytes][parameters, one word per group, to 16 bytes].
// One position of a cache segment of H heads: [keys' codes of all heads][values' codes][keys' parameters][values'
// parameters], nothing between.
// Source of the scheme: FlexGen (Sheng et al. 2023), section 4.2: group-wise asymmetric quantisation, groups of 64.
#pragma once

#include <cstdint>

namespace flexgen {

struct QuantFormat {
  std::int32_t bits = 0;  // 4 or 8; 0: not compressed
  std::int32_t group = 64;

  bool is_none() const { return bits == 0; }
  /// What users may choose; kernels of the host take other groups, too.
  bool has_known_bits() const { return bits == 4 || bits == 8; }
  bool has_known_group() const { return group == 32 || group == 64 || group == 128; }
  std::int64_t num_groups(std::int64_t elements) const { return (elements + group - 1) / group; }
  /// Bytes of the codes of so many consecutive elements, in whole words of eight.
  std::int64_t code_bytes(std::int64_t elements) const { return (elements + 7) / 8 * bits; }
  std::int64_t parameter_bytes(std::int64_t elements) const { return num_groups(elements) * 4; }

  /// Where the parameters of a matrix row begin, and its length.
  std::int64_t row_parameter_offset(std::int64_t cols) const { return (code_bytes(cols) + 15) / 16 * 16; }
  std::int64_t row_bytes(std::int64_t cols) const {
    return row_parameter_offset(cols) + (parameter_bytes(cols) + 15) / 16 * 16;
  }
  /// Bytes of one position of one head, key and value.
  std::int64_t head_position_bytes(std::int64_t head_dim) const {
    return 2 * (code_bytes(head_dim) + parameter_bytes(head_dim));
  }
  bool operator==(const QuantFormat&) const = default;
};

}  // namespace flexgen

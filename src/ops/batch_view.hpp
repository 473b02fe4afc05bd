// The rows of one micro-batch as ops see them: ragged, packed, without padding.
#pragma once

#include <cstddef>
#include <cstdint>

#include "spec/quantization.hpp"

namespace flexgen {

/// A row contributes `count` new tokens at its own positions start .. start+count-1; hidden states of all rows are
/// packed as [num_tokens, features], row r at packed rows token_offset[r] .. token_offset[r+1]-1.
/// Every array exists twice: on the host (for shapes and loops) and where ops run (same pointer on the host device).
struct BatchView {
  std::int32_t num_rows = 0;
  std::int32_t num_tokens = 0;
  std::int32_t max_count = 0;                       // largest count; 1 means that every row decodes
  std::int32_t max_length = 0;                      // largest start + count
  const std::int32_t* host_token_offset = nullptr;  // [num_rows + 1]
  const std::int32_t* host_start = nullptr;         // [num_rows]
  const std::int32_t* token_offset = nullptr;       // [num_rows + 1], device
  const std::int32_t* start = nullptr;              // [num_rows], device
};

/// Where one (row, head) pair keeps its keys and values: position p's key is the head_dim elements at
/// base + p * position_stride, its value the head_dim elements at base + v_offset + p * position_stride.
/// Strides and offsets count elements of the cache's dtype.
/// In a compressed cache (KvView::quant) they count bytes: codes stand there, and the parameters of the groups of
/// position p's key and value at base + k_parameters (v_parameters) + p * position_stride.
struct KvHead {
  std::byte* base = nullptr;
  std::int32_t position_stride = 0;
  std::int32_t v_offset = 0;
  std::int32_t k_parameters = 0;
  std::int32_t v_parameters = 0;
};

/// The cache of one (layer, micro-batch) in memory of the computing device.
struct KvView {
  const KvHead* heads = nullptr;       // [num_rows * num_heads], row-major; device memory
  const KvHead* host_heads = nullptr;  // the same table on the host
  std::int32_t num_heads = 0;
  std::int32_t head_dim = 0;
  QuantFormat quant = {};
};

}  // namespace flexgen

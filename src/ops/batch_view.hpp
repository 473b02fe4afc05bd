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

/// Positions begin .. begin + length - 1 of rows first_row .. first_row + num_rows - 1, which these have in common and
/// keep once. Both are multiples of prefix_grain.
struct SharedSpan {
  std::int32_t first_row = 0;
  std::int32_t num_rows = 0;
  std::int32_t begin = 0;
  std::int32_t length = 0;
  std::int32_t run = 0;  // where its keys and values lie: SharedSpans::host_heads[run * num_heads ..], from 0 on

  bool has(std::int32_t row) const { return row >= first_row && row < first_row + num_rows; }
};

/// The spans of each row, root first: row r has spans index[first[r]] .. index[first[r + 1] - 1] (ops/row_spans.hpp).
struct RowSpans {
  const std::int32_t* first = nullptr;  // [num_rows + 1]
  const std::int32_t* index = nullptr;
};

/// What rows of a batch share. A row's spans follow one another from its position 0 on; what comes after them is its
/// own, and its part of KvView::heads begins there. Rows of a span have all spans before it in common: a tree.
struct SharedSpans {
  std::int32_t num_spans = 0;                    // 0: every row keeps all of its positions for itself
  const SharedSpan* host_spans = nullptr;        // [num_spans], by first_row, then by begin
  const std::int32_t* host_own_begin = nullptr;  // [num_rows]: a row's first position that is not shared
  const KvHead* host_heads = nullptr;            // [runs * num_heads]
  // What a GPU's ops take, all null where ops run on the host:
  RowSpans host_row_spans = {};
  RowSpans row_spans = {};                  // the same on the device
  const SharedSpan* spans = nullptr;        // host_spans on the device
  const std::int32_t* own_start = nullptr;  // [num_rows], device: start, counted from host_own_begin
  const KvHead* heads = nullptr;            // host_heads on the device
};

/// The cache of one (layer, micro-batch) in memory of the computing device.
struct KvView {
  const KvHead* heads = nullptr;       // [num_rows * num_heads], row-major; device memory
  const KvHead* host_heads = nullptr;  // the same table on the host
  std::int32_t num_heads = 0;
  std::int32_t head_dim = 0;
  QuantFormat quant = {};
  SharedSpans shared = {};
};

}  // namespace flexgen

// Reader of one safetensors file's header.
//
// Source: the format section of the safetensors README (u64 little-endian header length, JSON header, data).
#pragma once

#include "weights/checkpoint/byte_source.hpp"
#include "weights/checkpoint/tensor_table.hpp"

namespace flexgen::checkpoint {

/// Reads the header only. Throws UserError (model) on a file that breaks the format: truncated, bad JSON, duplicate
/// keys, tensors that overlap, leave holes, pass the end, or whose size is not shape x dtype.
FileTable read_safetensors(const ByteSource& file);

}  // namespace flexgen::checkpoint

// Reader of one PyTorch zip `.bin` file: the pickled state dict says which record holds which tensor.
//
// Source: torch/serialization.py (records data.pkl, data/<key>, byteorder; persistent ids) and torch/_utils.py.
#pragma once

#include "weights/checkpoint/byte_source.hpp"
#include "weights/checkpoint/tensor_table.hpp"

namespace flexgen::checkpoint {

/// Reads the zip directory, the pickle and the records' headers only. A file whose top level is
/// {"state_dict": {...}} or {"model": {...}} gives the tensors of the inner dictionary; other values that are no
/// tensors are passed over. Throws UserError (model) on a damaged or hostile file, on the format from before PyTorch
/// 1.6, and on tensors that are not contiguous.
FileTable read_torch_archive(const ByteSource& file);

}  // namespace flexgen::checkpoint

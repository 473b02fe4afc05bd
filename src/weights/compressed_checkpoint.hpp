// A checkpoint that keeps weights compressed: written once, started from at the speed of the disk.
//
// Format: a Hugging Face model folder whose config.json has
//   "flexgen_dist": {"version": 1, "weight_bits": 4 | 8, "group": 32 | 64 | 128}
// and safetensors shards, one per layer of a sweep, listed in model.safetensors.index.json. A tensor has the name of
// the first Hugging Face tensor that it holds ("...q_proj.weight" for query, key and value together). A compressed
// matrix is U8 [rows, row bytes] as spec/quantization.hpp lays a row out (a token table with 8 bits at least); all else
// is F32, biases with their correction in them (bias_corrections.hpp).
#pragma once

#include <filesystem>
#include <map>
#include <memory>
#include <string>

#include "spec/quantization.hpp"
#include "weights/weight_image.hpp"
#include "weights/weight_source.hpp"

namespace flexgen {

/// Tensor name -> file name.
using ShardMap = std::map<std::string, std::string>;

/// Compresses the layers and writes a shard for each to `folder`, which must exist and have none of them. Weights that
/// layers share are left to the layer that comes first in the model, the embedding. The bytes do not depend on
/// `threads`. Throws UserError (file) when the disk is full.
ShardMap write_compressed_layers(std::span<const LayerDescription> layers, const QuantFormat& format,
                                 const WeightSource& source, const std::filesystem::path& folder,
                                 const ImageThreads& threads = {});

/// Reads such a folder; gives compressed rows of `format` and plain values of all that is not compressed.
std::unique_ptr<WeightSource> make_compressed_source(const Checkpoint& checkpoint, const QuantFormat& format);

}  // namespace flexgen

// The index of a sharded checkpoint (model.safetensors.index.json, pytorch_model.bin.index.json).
#pragma once

#include <map>
#include <string>
#include <string_view>
#include <vector>

namespace flexgen::checkpoint {

/// Keys by shard, the shards in order of name.
using WeightMap = std::map<std::string, std::vector<std::string>>;

/// Reads {"weight_map": {key: shard name}}; other entries are passed over. `file` is for messages. Throws UserError
/// (model) on bad JSON, a repeated key, an empty map, or a shard name that leads out of the model's folder.
WeightMap parse_weight_map(std::string_view text, std::string_view file);

}  // namespace flexgen::checkpoint

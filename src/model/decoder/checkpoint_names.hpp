// What a family's checkpoints call the tensors of a decoder. Plain data, one per family (model/families).
//
// A linear layer or a norm `x` is kept as "x.weight" and, where it has one, "x.bias".
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace flexgen {

struct CheckpointNames {
  std::vector<std::string> prefixes;  // any of them stands before the names that follow, but for those of the head

  std::string tokens;      // the table of tokens
  std::string positions;   // that of positions
  std::string project_in;  // from the table's width to the hidden size
  std::string project_out;

  std::string layers;            // of decoder layer N: "layers.N." and
  std::vector<std::string> qkv;  // queries, keys and values: three linear layers, or one that holds them in this order
  std::string attention_out;
  std::string attention_norm;
  std::string mlp_in;
  std::string mlp_out;
  std::string mlp_norm;

  std::vector<std::string> final_norm;  // any of them
  std::vector<std::string> head;        // whole names of a head that is not the table of tokens, any of them

  /// Whole names of the table of tokens, any of them.
  std::vector<std::string> table_keys() const {
    std::vector<std::string> all;
    for (const std::string& prefix : prefixes) all.push_back(prefix + tokens + ".weight");
    return all;
  }
  /// Of one decoder layer.
  std::vector<std::string> layer_prefixes(std::int32_t decoder_layer) const {
    std::vector<std::string> all;
    for (const std::string& prefix : prefixes)
      all.push_back(prefix + layers + "." + std::to_string(decoder_layer) + ".");
    return all;
  }
};

}  // namespace flexgen

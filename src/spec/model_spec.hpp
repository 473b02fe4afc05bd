// A model's shape, in the parts that a decoder is made of: read from its config.json by src/model/families, computed by
// src/model/decoder. Plain immutable data.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <string>
#include <vector>

#include "spec/dtype.hpp"
#include "spec/quantization.hpp"

namespace flexgen {

/// Where tokens become hidden states: rows of a table of tokens and of one of learned positions, summed up.
struct EmbeddingSpec {
  std::int32_t width = 0;           // of the table of tokens; another than the hidden size: a projection follows
  std::int32_t first_position = 0;  // row of position 0 in the table of positions
  bool operator==(const EmbeddingSpec&) const = default;
};

struct AttentionSpec {
  std::int32_t heads = 0;      // of the queries
  std::int32_t kv_heads = 0;   // of keys and values
  std::int32_t head_size = 0;  // elements of a head
  float scale = 1;             // of the products of queries and keys
  bool bias = true;            // of its linear layers

  /// Heads that share the hidden states among them, each with keys and values of its own; products by the root of
  /// their size.
  static AttentionSpec of_heads(std::int32_t heads, std::int32_t hidden) {
    const std::int32_t size = hidden / heads;
    return {heads, heads, size, 1.0F / std::sqrt(static_cast<float>(size))};
  }
  std::int64_t query_width() const { return static_cast<std::int64_t>(heads) * head_size; }
  std::int64_t kv_width() const { return static_cast<std::int64_t>(kv_heads) * head_size; }
  bool operator==(const AttentionSpec&) const = default;
};

enum class ActivationKind : std::uint8_t { relu, gelu };

/// Two linear layers with an activation between them.
struct MlpSpec {
  std::int32_t width = 0;  // between the two
  ActivationKind activation = ActivationKind::relu;
  bool bias = true;  // of its linear layers
  bool operator==(const MlpSpec&) const = default;
};

/// LayerNorm.
struct NormSpec {
  float epsilon = 1e-5F;
  bool affine = true;  // has a weight and a bias
  bool operator==(const NormSpec&) const = default;
};

/// How attention and mlp are added to the hidden states, each with a norm of its own.
enum class Residual : std::uint8_t {
  pre,       // x += attention(norm(x)), then x += mlp(norm(x))
  post,      // x = norm(x + attention(x)), then x = norm(x + mlp(x))
  parallel,  // x += attention(norm(x)) + mlp(norm(x))
};

/// Where hidden states become logits. Under a narrower table of tokens a projection comes before it.
struct HeadSpec {
  bool norm = true;  // before all else
  bool tied = true;  // its matrix is the table of tokens
  bool operator==(const HeadSpec&) const = default;
};

struct ModelSpec {
  std::string family;  // "opt"
  std::string name;    // folder or model name, for reports
  std::int32_t num_layers = 0;
  std::int32_t hidden = 0;
  std::int32_t vocab = 0;
  std::int32_t max_positions = 0;  // longest row: its prompt and what is generated, but for the last token
  EmbeddingSpec embedding;
  AttentionSpec attention;
  MlpSpec mlp;
  NormSpec norm;  // all of them
  Residual residual = Residual::pre;
  HeadSpec head;
  std::int32_t bos_token = 2;
  std::vector<std::int32_t> eos_tokens = {2};  // any of them ends a row
  std::int32_t pad_token = 1;
  DType stored_dtype = DType::float16;  // what the config says the checkpoint holds
  QuantFormat compression;              // of a checkpoint that --save-compressed wrote; none: an ordinary one

  bool is_eos(std::int32_t token) const { return std::ranges::find(eos_tokens, token) != eos_tokens.end(); }
  bool has_projections() const { return embedding.width != hidden; }
  bool operator==(const ModelSpec&) const = default;
};

/// One line that is equal for equal specs; goes into the hash that ranks compare.
std::string fingerprint(const ModelSpec& spec);

}  // namespace flexgen

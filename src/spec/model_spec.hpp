// A model's shape as its config.json states it. Plain immutable data.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "spec/dtype.hpp"
#include "spec/quantization.hpp"

namespace flexgen {

enum class ActivationKind : std::uint8_t { relu, gelu };

struct ModelSpec {
  std::string family;  // "opt"
  std::string name;    // folder or model name, for reports
  std::int32_t num_layers = 0;
  std::int32_t num_heads = 0;
  std::int32_t hidden = 0;
  std::int32_t ffn = 0;
  std::int32_t vocab = 0;
  std::int32_t max_positions = 0;  // longest row: its prompt and what is generated, but for the last token
  std::int32_t embedding_dim = 0;  // width of the token table; != hidden means project_in / project_out
  ActivationKind activation = ActivationKind::relu;
  bool pre_norm = true;  // LayerNorm before attention and mlp (opt-350m: after)
  bool final_norm = true;
  bool bias = true;         // linear layers have biases
  bool norm_affine = true;  // LayerNorms have weight and bias
  bool tied_head = true;    // the head is the token table
  std::int32_t bos_token = 2;
  std::vector<std::int32_t> eos_tokens = {2};  // any of them ends a row
  std::int32_t pad_token = 1;
  DType stored_dtype = DType::float16;  // what the config says the checkpoint holds
  QuantFormat compression;              // of a checkpoint that --save-compressed wrote; none: an ordinary one

  std::int32_t head_dim() const { return hidden / num_heads; }
  float attention_scale() const { return 1.0F / std::sqrt(static_cast<float>(head_dim())); }
  bool is_eos(std::int32_t token) const { return std::ranges::find(eos_tokens, token) != eos_tokens.end(); }
  bool has_projections() const { return embedding_dim != hidden; }
  bool operator==(const ModelSpec&) const = default;
};

/// Parses the text of a config.json. Architectures that we do not run are refused by name, as is a value that we
/// cannot honour; all as UserError (model) naming `where`.
ModelSpec parse_model_spec(std::string_view config_json, const std::string& where);

/// Reads DIR/config.json, and the end tokens from DIR/generation_config.json where that is there. Throws UserError
/// (model).
ModelSpec read_model_spec(const std::string& model_dir);

/// What the files of DIR ask for and nothing honours, a sentence each, as a user reads it: about the choice of tokens,
/// and about the model itself (members of config.json that nothing reads). Throws UserError (model).
std::vector<std::string> describe_unread_wishes(const std::string& model_dir);
std::vector<std::string> describe_unread_members(const std::string& model_dir);

/// Number of parameters (a tied head counts once).
std::uint64_t num_parameters(const ModelSpec& spec);

/// One line that is equal for equal specs; goes into the hash that ranks compare.
std::string fingerprint(const ModelSpec& spec);

}  // namespace flexgen

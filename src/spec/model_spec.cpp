#include "spec/model_spec.hpp"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <array>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <sstream>

#include "base/error.hpp"
#include "spec/generation_config.hpp"

namespace flexgen {
namespace {

using nlohmann::json;

// Typed access to one config with errors that name file, field and what was found.
class Config {
 public:
  Config(json object, std::string where) : object_(std::move(object)), where_(std::move(where)) {}

  [[noreturn]] void refuse(const std::string& reason, const std::string& suggestion) const {
    throw UserError(ExitCode::model, "cannot run the model of " + where_, reason, suggestion);
  }

  std::int32_t count(const char* key, std::int32_t lowest = 1) const {
    if (!present(key)) refuse(fmt::format("'{}' is missing", key), "The file must be a Hugging Face config.json");
    return count_or(key, 0, lowest);
  }

  std::int32_t count_or(const char* key, std::int32_t fallback, std::int32_t lowest = 0) const {
    if (!present(key)) return fallback;
    const json& value = object_.at(key);
    if (!value.is_number_integer() || value.get<double>() < lowest || value.get<double>() > 1e9)
      refuse(fmt::format("'{}' is {}, expected a whole number of at least {}", key, value.dump(), lowest), "");
    return value.get<std::int32_t>();
  }

  bool flag_or(const char* key, bool fallback) const {
    if (!present(key)) return fallback;
    const json& value = object_.at(key);
    if (!value.is_boolean()) refuse(fmt::format("'{}' is {}, expected true or false", key, value.dump()), "");
    return value.get<bool>();
  }

  std::string text_or(const char* key, const std::string& fallback) const {
    if (!present(key)) return fallback;
    const json& value = object_.at(key);
    if (!value.is_string()) refuse(fmt::format("'{}' is {}, expected a string", key, value.dump()), "");
    return value.get<std::string>();
  }

  QuantFormat compression(const char* key) const {
    const json& value = object_.at(key);
    if (!value.is_object()) refuse(fmt::format("'{}' is {}, expected an object", key, value.dump()), "");
    const Config inner(value, where_);
    const QuantFormat format{inner.count("weight_bits"), inner.count("group")};
    if (inner.count("version") != 1 || !format.has_known_bits() || !format.has_known_group())
      refuse(fmt::format("its compressed weights are in a form that this program does not know: {}", value.dump()),
             "It was written by another version; compress the model again with --save-compressed");
    return format;
  }

  bool present(const char* key) const { return object_.contains(key) && !object_.at(key).is_null(); }

 private:
  json object_;
  std::string where_;
};

bool is_float64(std::string_view dtype) { return dtype == "float64" || dtype == "torch.float64" || dtype == "double"; }

// Weights that config.json says are quantized would be read as something they are not.
void refuse_quantized(const Config& config) {
  for (const char* key : {"quantization_config", "compression_config"})
    if (config.present(key))
      config.refuse(
          fmt::format("its weights are quantized by another program ('{}')", key),
          "Start from the model before it was quantized (or save model.dequantize()); --compress-weight makes it "
          "small here");
}

// Members of OPT's config.json that are read, or that change nothing that is computed.
constexpr auto known_members = std::to_array<std::string_view>({"model_type",
                                                                "architectures",
                                                                "learned_embeddings",
                                                                "num_hidden_layers",
                                                                "num_attention_heads",
                                                                "hidden_size",
                                                                "ffn_dim",
                                                                "vocab_size",
                                                                "max_position_embeddings",
                                                                "word_embed_proj_dim",
                                                                "do_layer_norm_before",
                                                                "_remove_final_layer_norm",
                                                                "enable_bias",
                                                                "layer_norm_elementwise_affine",
                                                                "tie_word_embeddings",
                                                                "activation_function",
                                                                "dtype",
                                                                "torch_dtype",
                                                                "flexgen_dist",
                                                                "dropout",
                                                                "attention_dropout",
                                                                "activation_dropout",
                                                                "layerdrop",
                                                                "init_std",
                                                                "use_cache",
                                                                "prefix",
                                                                "_name_or_path",
                                                                "name_or_path",
                                                                "_attn_implementation",
                                                                "attn_implementation",
                                                                "_attn_implementation_autoset",
                                                                "id2label",
                                                                "label2id",
                                                                "problem_type",
                                                                "finetuning_task",
                                                                "task_specific_params",
                                                                "tokenizer_class",
                                                                "gradient_checkpointing",
                                                                "torchscript",
                                                                "use_bfloat16",
                                                                "return_dict",
                                                                "chunk_size_feed_forward",
                                                                "tf_legacy_loss",
                                                                "sep_token_id",
                                                                "is_decoder",
                                                                "cross_attention_hidden_size"});

// Members with a value that somebody may expect to change what the model computes.
std::vector<std::string> unread_members(const std::string& config_json) {
  const json config = json::parse(config_json);
  std::vector<std::string> unread;
  for (const auto& [name, value] : config.items()) {
    if (std::ranges::find(known_members, name) != known_members.end() || is_generation_member(name)) continue;
    const bool says_nothing = value.is_null() || value == false || (value.is_structured() && value.empty());
    if (!says_nothing) unread.push_back(describe_member(name, value.dump(-1, ' ', true)));
  }
  return unread;
}

std::string read_config(const std::filesystem::path& path) {
  std::ifstream file(path, std::ios::binary);
  if (!file)
    throw UserError(ExitCode::model, "cannot open '" + path.string() + "'", errno_text(errno),
                    "--model takes a Hugging Face model directory (config.json, weights, tokenizer files)");
  std::ostringstream text;
  text << file.rdbuf();
  return text.str();
}

constexpr const char* what_we_run = "This program runs OPT (model_type 'opt', which includes OPT-IML and Galactica)";

}  // namespace

ModelSpec parse_model_spec(std::string_view config_json, const std::string& where) {
  json object = json::parse(config_json, nullptr, false);
  if (!object.is_object())
    throw UserError(ExitCode::model, "cannot read " + where, "it is not a JSON object",
                    "Give a Hugging Face model directory");
  const Config config(std::move(object), where);

  const std::string type = config.text_or("model_type", "(none)");
  if (type != "opt") config.refuse("its architecture is '" + type + "'", what_we_run);

  refuse_quantized(config);

  ModelSpec spec;
  spec.family = type;
  spec.name = std::filesystem::path(where).parent_path().filename().string();
  spec.num_layers = config.count("num_hidden_layers");
  const std::int32_t num_heads = config.count("num_attention_heads");
  spec.hidden = config.count("hidden_size");
  spec.mlp.width = config.count("ffn_dim");
  spec.vocab = config.count("vocab_size");
  spec.max_positions = config.count("max_position_embeddings");
  spec.embedding.width = config.count_or("word_embed_proj_dim", spec.hidden, 1);
  spec.embedding.first_position = 2;
  spec.attention = AttentionSpec::of_heads(num_heads, spec.hidden);
  spec.residual = config.flag_or("do_layer_norm_before", true) ? Residual::pre : Residual::post;
  spec.head.norm = spec.residual == Residual::pre && !config.flag_or("_remove_final_layer_norm", false);
  spec.attention.bias = spec.mlp.bias = config.flag_or("enable_bias", true);
  spec.norm.affine = config.flag_or("layer_norm_elementwise_affine", true);
  spec.head.tied = config.flag_or("tie_word_embeddings", true);
  spec.bos_token = config.count_or("bos_token_id", 2);
  spec.eos_tokens = parse_generation_config(config_json, where, ConfigKind::model).eos_tokens;
  spec.pad_token = config.count_or("pad_token_id", 1);

  const std::string activation = config.text_or("activation_function", "relu");
  if (activation == "relu") spec.mlp.activation = ActivationKind::relu;
  else if (activation == "gelu") spec.mlp.activation = ActivationKind::gelu;
  else config.refuse("its activation_function is '" + activation + "'", "OPT runs with relu or gelu");

  const std::string dtype = config.text_or("dtype", config.text_or("torch_dtype", "float16"));
  try {
    spec.stored_dtype = is_float64(dtype) ? DType::float32 : parse_dtype(dtype);
  } catch (const UserError&) {
    config.refuse("its data type is '" + dtype + "'", "We run float32, float16 and bfloat16, and read float64");
  }
  if (config.present("flexgen_dist")) spec.compression = config.compression("flexgen_dist");
  if (spec.hidden % num_heads != 0)
    config.refuse(fmt::format("hidden_size {} is not a multiple of num_attention_heads {}", spec.hidden, num_heads),
                  "");
  return spec;
}

ModelSpec read_model_spec(const std::string& model_dir) {
  const std::filesystem::path path = std::filesystem::path(model_dir) / "config.json";
  ModelSpec spec = parse_model_spec(read_config(path), path.string());
  const std::filesystem::path generation = path.parent_path() / "generation_config.json";
  if (std::filesystem::exists(generation))
    spec.eos_tokens =
        parse_generation_config(read_config(generation), generation.string(), ConfigKind::generation).eos_tokens;
  const std::filesystem::path directory = std::filesystem::absolute(path).lexically_normal().parent_path();
  spec.name = directory.filename().string();
  return spec;
}

std::vector<std::string> describe_unread_wishes(const std::string& model_dir) {
  const std::filesystem::path config = std::filesystem::path(model_dir) / "config.json";
  const std::filesystem::path own = config.parent_path() / "generation_config.json";
  const bool has_own = std::filesystem::exists(own);
  const std::string file = (has_own ? own : config).string();
  const GenerationConfig wishes =
      parse_generation_config(read_config(file), file, has_own ? ConfigKind::generation : ConfigKind::model);
  std::vector<std::string> sentences;
  if (!wishes.not_done.empty())
    sentences.push_back(
        fmt::format("{} asks for {}, which is not done: each token is the likeliest one, and max_tokens, stop and "
                    "--gen-len say where a row ends",
                    file, fmt::join(wishes.not_done, " and ")));
  if (wishes.eos_tokens.empty())
    sentences.push_back(fmt::format("{} names no eos_token_id: only a stop string or the length ends a row", file));
  return sentences;
}

std::vector<std::string> describe_unread_members(const std::string& model_dir) {
  const std::filesystem::path path = std::filesystem::path(model_dir) / "config.json";
  const std::vector<std::string> unread = unread_members(read_config(path));
  if (unread.empty()) return {};
  return {fmt::format("nothing reads {} in {}: if it changes what the model computes, results differ from its author's",
                      fmt::join(unread, ", "), path.string())};
}

std::uint64_t num_parameters(const ModelSpec& spec) {
  const auto h = static_cast<std::uint64_t>(spec.hidden);
  const auto f = static_cast<std::uint64_t>(spec.mlp.width);
  const auto e = static_cast<std::uint64_t>(spec.embedding.width);
  const auto v = static_cast<std::uint64_t>(spec.vocab);
  const std::uint64_t norm = spec.norm.affine ? 2 * h : 0;
  const std::uint64_t biases = (spec.attention.bias ? 4 * h : 0) + (spec.mlp.bias ? f + h : 0);
  std::uint64_t total = static_cast<std::uint64_t>(spec.num_layers) * (4 * h * h + 2 * h * f + biases + 2 * norm);
  total += v * e + static_cast<std::uint64_t>(spec.max_positions + spec.embedding.first_position) * h;
  if (spec.has_projections()) total += 2 * e * h;
  if (spec.head.norm) total += norm;
  if (!spec.head.tied) total += v * e;
  return total;
}

std::string fingerprint(const ModelSpec& s) {
  std::string text = fmt::format("{}:{}x{}v{}p{}", s.family, s.num_layers, s.hidden, s.vocab, s.max_positions);
  text += fmt::format(" embedding {}/{}", s.embedding.width, s.embedding.first_position);
  text += fmt::format(" attention {}/{}x{}*{}b{}", s.attention.heads, s.attention.kv_heads, s.attention.head_size,
                      s.attention.scale, s.attention.bias);
  text += fmt::format(" mlp {}a{}b{}", s.mlp.width, static_cast<int>(s.mlp.activation), s.mlp.bias);
  text += fmt::format(" norm {}a{}", s.norm.epsilon, s.norm.affine);
  text += fmt::format(" residual {} head {}t{}", static_cast<int>(s.residual), s.head.norm, s.head.tied);
  text += fmt::format(" tokens {}/{}/{}", s.bos_token, fmt::join(s.eos_tokens, ","), s.pad_token);
  text += fmt::format(" compression {}/{}", s.compression.bits, s.compression.group);
  return text;
}

}  // namespace flexgen

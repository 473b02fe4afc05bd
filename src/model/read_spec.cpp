#include "model/read_spec.hpp"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <sstream>

#include "base/error.hpp"
#include "model/config.hpp"
#include "model/registry.hpp"
#include "spec/generation_config.hpp"

namespace flexgen {
namespace {

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

DType read_stored_dtype(const Config& config) {
  const std::string dtype = config.text_or("dtype", config.text_or("torch_dtype", "float16"));
  try {
    return is_float64(dtype) ? DType::float32 : parse_dtype(dtype);
  } catch (const UserError&) {
    config.refuse("its data type is '" + dtype + "'", "We run float32, float16 and bfloat16, and read float64");
  }
}

// The parts by the family, the rest as every family has it.
ModelSpec read_members(const Config& config, std::string_view config_json) {
  const std::string type = config.text_or("model_type", "(none)");
  const auto family = std::ranges::find(model_families(), type, &ModelFamily::name);
  if (family == model_families().end()) config.refuse("its architecture is '" + type + "'", what_we_run());
  refuse_quantized(config);

  ModelSpec spec;
  spec.family = type;
  spec.name = std::filesystem::path(config.where()).parent_path().filename().string();
  family->read_parts(config, spec);
  spec.bos_token = config.count_or("bos_token_id", 2);
  spec.eos_tokens = parse_generation_config(config_json, config.where(), ConfigKind::model).eos_tokens;
  spec.pad_token = config.count_or("pad_token_id", 1);
  spec.stored_dtype = read_stored_dtype(config);
  if (config.present("flexgen_dist")) spec.compression = config.compression("flexgen_dist");
  return spec;
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

}  // namespace

ModelSpec parse_model_spec(std::string_view config_json, const std::string& where) {
  return read_members(Config::parse(config_json, where), config_json);
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
  const std::string text = read_config(path);
  const Config config = Config::parse(text, path.string());
  read_members(config, text);
  const std::vector<std::string> unread = config.unread();
  if (unread.empty()) return {};
  return {fmt::format("nothing reads {} in {}: if it changes what the model computes, results differ from its author's",
                      fmt::join(unread, ", "), path.string())};
}

}  // namespace flexgen

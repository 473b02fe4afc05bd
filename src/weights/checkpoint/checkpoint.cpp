#include "weights/checkpoint/checkpoint.hpp"

#include <fmt/core.h>

#include <algorithm>
#include <array>
#include <string>
#include <unordered_set>

#include "base/bytes.hpp"
#include "base/error.hpp"
#include "weights/checkpoint/refusal.hpp"
#include "weights/checkpoint/safetensors.hpp"
#include "weights/checkpoint/torch_archive.hpp"
#include "weights/checkpoint/weight_map.hpp"

namespace flexgen {

using checkpoint::FileBytes;
using checkpoint::FileTable;
using checkpoint::quote_name;
using checkpoint::refuse_file;
using checkpoint::refuse_tensor;

namespace {

struct Layout {
  const char* file;
  bool is_safetensors;
  bool is_index;
};
constexpr std::array layouts{
    Layout{"model.safetensors", true, false}, Layout{"model.safetensors.index.json", true, true},
    Layout{"pytorch_model.bin", false, false}, Layout{"pytorch_model.bin.index.json", false, true}};

const Layout& find_layout(const std::filesystem::path& model_dir) {
  std::error_code ignored;
  for (const Layout& layout : layouts) {
    // A dangling link is found too, so that opening it can say so.
    if (std::filesystem::symlink_status(model_dir / layout.file, ignored).type() !=
        std::filesystem::file_type::not_found) {
      return layout;
    }
  }
  const bool is_folder = std::filesystem::is_directory(model_dir, ignored);
  throw UserError(ExitCode::model, fmt::format("no checkpoint in {}", quote_name(model_dir.string())),
                  is_folder ? "it holds neither model.safetensors nor pytorch_model.bin, nor an index of shards"
                            : "it is not a folder",
                  "Name the folder of a downloaded Hugging Face model");
}

checkpoint::WeightMap read_index(const std::filesystem::path& path) {
  const FileBytes file(path);
  if (file.size_bytes() > 64 * MiB) refuse_file(file.name(), "an index of more than 64 MiB is not credible");
  std::string text(file.size_bytes(), '\0');
  file.read(0, std::as_writable_bytes(std::span(text)), "the index");
  return checkpoint::parse_weight_map(text, file.name());
}

// What wrappers of a model put before the names of its tensors: data parallelism, adapters, the compiler.
constexpr std::array<std::string_view, 4> wrappers{"module.", "base_model.model.", "_orig_mod.",
                                                   "_fsdp_wrapped_module."};

std::string_view without_wrappers(std::string_view key) {
  for (bool found = true; found;) {
    found = false;
    for (const std::string_view wrapper : wrappers)
      if (key.starts_with(wrapper) && key.size() > wrapper.size()) {
        key.remove_prefix(wrapper.size());
        found = true;
      }
  }
  return key;
}

/// A clone without Git LFS has small text files in place of the weights.
void refuse_lfs_pointer(const FileBytes& file) {
  constexpr std::string_view magic = "version https://git-lfs";
  std::array<std::byte, magic.size()> head{};
  if (file.size_bytes() < head.size()) return;
  file.read(0, head, "the file's beginning");
  if (checkpoint::as_text(head) == magic) {
    refuse_file(file.name(), "it is a Git LFS pointer, not the weights", "Run 'git lfs pull' in the model's folder");
  }
}

}  // namespace

Checkpoint Checkpoint::open(const std::filesystem::path& model_dir) {
  const Layout& layout = find_layout(model_dir);
  Checkpoint result;
  result.model_dir_ = model_dir;
  checkpoint::WeightMap shards;
  if (layout.is_index) {
    shards = read_index(model_dir / layout.file);
    for (const auto& [shard, keys] : shards) result.paths_.push_back(model_dir / shard);
  } else {
    result.paths_.push_back(model_dir / layout.file);
  }
  result.merge(result.open_files(layout.is_safetensors));

  std::size_t shard_index = 0;
  for (const auto& [shard, keys] : shards) {
    for (const std::string& key : keys) result.check_mapped(key, shard_index);
    ++shard_index;
  }
  if (result.tensors_.empty()) refuse_file(result.files_.front()->name(), "it holds no floating-point tensors");
  return result;
}

std::vector<FileTable> Checkpoint::open_files(bool is_safetensors) {
  std::vector<FileTable> tables;
  for (const auto& path : paths_) {
    const auto file = std::make_shared<const FileBytes>(path);
    refuse_lfs_pointer(*file);
    tables.push_back(is_safetensors ? checkpoint::read_safetensors(*file) : checkpoint::read_torch_archive(*file));
    files_.push_back(file);
  }
  return tables;
}

void Checkpoint::merge(std::vector<FileTable> tables) {
  for (std::size_t file = 0; file < tables.size(); ++file) {
    for (CheckpointTensor& tensor : tables[file].tensors) {
      tensor.file = file;
      tensors_.push_back(std::move(tensor));
    }
    for (UnsupportedTensor& tensor : tables[file].unsupported) {
      tensor.file = file;
      unsupported_.push_back(std::move(tensor));
    }
  }
  take_wrappers_off();
  std::ranges::sort(tensors_, {}, &CheckpointTensor::key);
  std::ranges::sort(unsupported_, {}, &UnsupportedTensor::key);
  check_unique();
}

void Checkpoint::take_wrappers_off() {
  std::unordered_set<std::string> taken;
  for (const CheckpointTensor& tensor : tensors_) taken.insert(tensor.key);
  for (const UnsupportedTensor& tensor : unsupported_) taken.insert(tensor.key);
  const auto shorten = [&](std::string& key) {
    std::string bare(without_wrappers(key));
    if (bare.size() < key.size() && taken.insert(bare).second) key = std::move(bare);
  };
  for (CheckpointTensor& tensor : tensors_) shorten(tensor.key);
  for (UnsupportedTensor& tensor : unsupported_) shorten(tensor.key);
}

void Checkpoint::check_unique() const {
  const auto refuse_twice = [&](const std::string& key, std::size_t first, std::size_t second) {
    refuse_tensor(paths_[first].string(), key,
                  fmt::format("shard {} holds it too", quote_name(paths_[second].string())));
  };
  const auto twice = std::ranges::adjacent_find(tensors_, {}, &CheckpointTensor::key);
  if (twice != tensors_.end()) refuse_twice(twice->key, twice->file, std::next(twice)->file);
  const auto other = std::ranges::adjacent_find(unsupported_, {}, &UnsupportedTensor::key);
  if (other != unsupported_.end()) refuse_twice(other->key, other->file, std::next(other)->file);
  for (const UnsupportedTensor& tensor : unsupported_) {
    if (const CheckpointTensor* same = find(tensor.key)) refuse_twice(tensor.key, same->file, tensor.file);
  }
}

const CheckpointTensor* Checkpoint::find(std::string_view key) const {
  const auto found = std::ranges::lower_bound(tensors_, key, {}, &CheckpointTensor::key);
  return found != tensors_.end() && found->key == key ? &*found : nullptr;
}

const UnsupportedTensor* Checkpoint::find_unsupported(std::string_view key) const {
  const auto found = std::ranges::lower_bound(unsupported_, key, {}, &UnsupportedTensor::key);
  return found != unsupported_.end() && found->key == key ? &*found : nullptr;
}

const CheckpointTensor& Checkpoint::require(std::string_view key) const {
  if (const CheckpointTensor* tensor = find(key)) return *tensor;
  if (const UnsupportedTensor* other = find_unsupported(key)) {
    refuse_tensor(paths_[other->file].string(), key, fmt::format("its element type is {}", quote_name(other->dtype)),
                  "Convert the model to float32, float16 or bfloat16");
  }
  const bool has_adapter = std::ranges::any_of(
      tensors_, [](const CheckpointTensor& tensor) { return tensor.key.find(".base_layer.") != std::string::npos; });
  throw UserError(
      ExitCode::model,
      fmt::format("tensor {} is missing from the checkpoint in {}", quote_name(key), quote_name(model_dir_.string())),
      fmt::format("none of the {} tensors in its {} files has that name", tensors_.size(), paths_.size()),
      has_adapter ? "An adapter is wrapped around the weights: save what merge_and_unload() gives"
                  : "Check that config.json belongs to these weights and that the download is complete");
}

bool Checkpoint::has_token_table() const {
  return std::ranges::any_of(
      tensors_, [](const CheckpointTensor& tensor) { return tensor.key.ends_with("embed_tokens.weight"); });
}

void Checkpoint::check_mapped(std::string_view key, std::size_t file) const {
  const std::string_view bare = without_wrappers(key);
  const CheckpointTensor* tensor = find(key) ? find(key) : find(bare);
  const UnsupportedTensor* other = find_unsupported(key) ? find_unsupported(key) : find_unsupported(bare);
  // A head that is the token table is often left out of the files, but not of the index.
  if (tensor == nullptr && other == nullptr && bare.ends_with("lm_head.weight") && has_token_table()) return;
  const bool is_there = (tensor != nullptr && tensor->file == file) || (other != nullptr && other->file == file);
  if (!is_there) refuse_tensor(paths_[file].string(), key, "the index says that it is in this shard, but it is not");
}

void Checkpoint::read(const CheckpointTensor& tensor, std::uint64_t offset_bytes, std::span<std::byte> dst) const {
  FLEXGEN_CHECK(tensor.file < files_.size(), "the tensor belongs to another checkpoint");
  FLEXGEN_CHECK(offset_bytes <= tensor.size_bytes && dst.size() <= tensor.size_bytes - offset_bytes,
                "read past the end of tensor " + tensor.key);
  files_[tensor.file]->read(tensor.offset_bytes + offset_bytes, dst, "tensor " + quote_name(tensor.key));
}

}  // namespace flexgen

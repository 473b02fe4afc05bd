// A Hugging Face checkpoint as a table of where each tensor's bytes lie; nothing is loaded.
//
// Formats: safetensors and PyTorch's zip `.bin`, single or sharded with an index. The files are not trusted:
// whatever they hold, opening gives a table whose extents lie inside the files, or a UserError.
// Ownership: holds the files open; copies share them. Immutable and thread-safe.
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <memory>
#include <span>
#include <string_view>
#include <vector>

#include "weights/checkpoint/byte_source.hpp"
#include "weights/checkpoint/tensor_table.hpp"

namespace flexgen {

class Checkpoint {
 public:
  /// Opens the first of model.safetensors, model.safetensors.index.json, pytorch_model.bin,
  /// pytorch_model.bin.index.json in `model_dir`. Reads headers and pickles only. Throws UserError (model) naming
  /// the file, and the tensor or record, when something is missing, damaged, hostile, or not in a format that can be
  /// read in place.
  /// Keys lose what wrappers put before them ("module.", "base_model.model."), unless the bare key exists, too; an
  /// index may name a head (lm_head.weight) that its shard lacks, where there is a token table.
  static Checkpoint open(const std::filesystem::path& model_dir);

  /// Null when absent (or of an unsupported element type).
  const CheckpointTensor* find(std::string_view key) const;
  /// As find, but throws UserError (model) that says whether the key is absent or of an unsupported element type.
  const CheckpointTensor& require(std::string_view key) const;

  /// Among those of an unsupported element type; null when absent.
  const UnsupportedTensor* find_unsupported(std::string_view key) const;

  /// In order of key.
  std::span<const CheckpointTensor> tensors() const { return tensors_; }
  /// In order of key: tensors kept out of the table because of their element type.
  std::span<const UnsupportedTensor> unsupported() const { return unsupported_; }
  const std::vector<std::filesystem::path>& files() const { return paths_; }

  /// Copies bytes [offset_bytes, offset_bytes + dst.size()) of `tensor`, which must be one of this checkpoint's, to
  /// dst. Throws UserError (model) naming file and tensor when the file cannot be read or has shrunk.
  void read(const CheckpointTensor& tensor, std::uint64_t offset_bytes, std::span<std::byte> dst) const;

 private:
  Checkpoint() = default;
  std::vector<checkpoint::FileTable> open_files(bool is_safetensors);
  void merge(std::vector<checkpoint::FileTable> tables);
  void take_wrappers_off();
  void check_unique() const;
  bool has_token_table() const;
  void check_mapped(std::string_view key, std::size_t file) const;

  std::filesystem::path model_dir_;
  std::vector<std::filesystem::path> paths_;
  std::vector<std::shared_ptr<const checkpoint::FileBytes>> files_;
  std::vector<CheckpointTensor> tensors_;
  std::vector<UnsupportedTensor> unsupported_;
};

}  // namespace flexgen

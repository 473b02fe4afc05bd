#include "weights/checkpoint/torch_archive.hpp"

#include <fmt/core.h>

#include <algorithm>
#include <array>
#include <unordered_map>
#include <unordered_set>
#include <utility>

#include "weights/checkpoint/pickle.hpp"
#include "weights/checkpoint/refusal.hpp"
#include "weights/checkpoint/zip_directory.hpp"

namespace flexgen::checkpoint {

namespace {

constexpr std::string_view pickle_name = "/data.pkl";

/// Tells files that are no zip archive apart, since each has another cure.
void check_is_zip(const ByteSource& file) {
  constexpr std::size_t tar_magic_at = 257;
  std::array<std::byte, tar_magic_at + 5> head{};
  const std::size_t num_bytes = std::min<std::uint64_t>(file.size_bytes(), head.size());
  file.read(0, std::span(head).first(num_bytes), "the file's beginning");
  const std::string_view text = as_text(head);
  if (text.starts_with("PK\x03\x04")) return;
  if (text.starts_with("\x80\x02") || text.substr(tar_magic_at) == "ustar") {
    refuse_file(file.name(), "it has the format from before PyTorch 1.6",
                "Save it again with a current PyTorch, torch.save(torch.load(path, map_location='cpu'), path), or "
                "convert it to safetensors");
  }
  refuse_file(file.name(), "it is not a zip archive written by torch.save");
}

class ArchiveReader {
 public:
  explicit ArchiveReader(const ByteSource& file) : file_(file), directory_(file), prefix_(find_prefix()) {
    check_byte_order();
    const ZipRecord* record = directory_.find(prefix_ + std::string(pickle_name));
    pickle_bytes_ = directory_.read(*record, max_pickle_bytes);
    pickle_ = parse_pickle(pickle_bytes_, file_.name());
  }

  FileTable read() {
    const PickleValue& dict = state_dict();
    std::unordered_set<std::string_view> keys;
    for (std::size_t i = 0; i + 1 < dict.items.size(); i += 2) {
      const PickleValue& key = pickle_[dict.items[i]];
      const PickleValue& value = pickle_[dict.items[i + 1]];
      if (value.kind != PickleKind::tensor) continue;
      if (key.kind != PickleKind::text) refuse_file(file_.name(), "a tensor's name is not text");
      if (!keys.insert(key.text).second) refuse_tensor(file_.name(), key.text, "its key occurs twice");
      add_tensor(std::string(key.text), value);
    }
    return std::move(table_);
  }

 private:
  /// The folder that all records lie in.
  std::string find_prefix() const {
    std::string_view prefix;
    for (const ZipRecord& record : directory_.records()) {
      if (!record.name.ends_with(pickle_name)) continue;
      const std::string_view folder = record.name.substr(0, record.name.size() - pickle_name.size());
      if (folder.find('/') != std::string_view::npos) continue;
      if (!prefix.empty()) refuse_file(file_.name(), "it holds more than one data.pkl");
      prefix = folder;
    }
    if (prefix.empty()) refuse_file(file_.name(), "it holds no data.pkl: it was not written by torch.save");
    return std::string(prefix);
  }

  void check_byte_order() const {
    const ZipRecord* record = directory_.find(prefix_ + "/byteorder");
    if (record == nullptr) return;  // before PyTorch 2.1: always little-endian in practice
    const auto bytes = directory_.read(*record, 64);
    if (as_text(bytes) != "little") {
      refuse_file(file_.name(), fmt::format("its byte order is {}, not 'little'", quote_name(as_text(bytes))),
                  "Save it again on a little-endian machine");
    }
  }

  bool holds_tensors(const PickleValue& dict) const {
    for (std::size_t i = 1; i < dict.items.size(); i += 2) {
      if (pickle_[dict.items[i]].kind == PickleKind::tensor) return true;
    }
    return false;
  }

  const PickleValue& state_dict() const {
    const PickleValue& root = pickle_[pickle_.root];
    if (root.kind != PickleKind::dict) refuse_file(file_.name(), "it does not hold a state dict");
    if (holds_tensors(root)) return root;
    const PickleValue* nested = nullptr;
    for (std::size_t i = 0; i + 1 < root.items.size(); i += 2) {
      const PickleValue& key = pickle_[root.items[i]];
      const PickleValue& value = pickle_[root.items[i + 1]];
      if (key.kind != PickleKind::text || (key.text != "state_dict" && key.text != "model")) continue;
      if (value.kind != PickleKind::dict) continue;
      if (nested != nullptr) refuse_file(file_.name(), "it holds more than one state dict");
      nested = &value;
    }
    return nested != nullptr ? *nested : root;
  }

  void add_tensor(std::string key, const PickleValue& tensor) {
    const PickleValue& storage = pickle_[tensor.items[0]];
    if (storage.kind != PickleKind::storage) refuse_tensor(file_.name(), key, "it has no storage");
    const AllowedGlobal& storage_type = global(storage.items[1]);
    const AllowedGlobal& type = tensor.integer != 0 ? dtype_argument(tensor, key) : storage_type;
    const auto dtype = dtype_of(type.dtype);
    if (!dtype) {
      table_.unsupported.push_back({.key = std::move(key), .dtype = std::string(type.dtype)});
      return;
    }

    CheckpointTensor entry{.key = std::move(key), .dtype = *dtype};
    entry.shape = integers(tensor.items[2], entry.key);
    const auto elements = num_elements(entry.shape);
    if (!elements || __builtin_mul_overflow(*elements, type.element_bytes, &entry.size_bytes)) {
      refuse_tensor(file_.name(), entry.key, "its shape is out of range");
    }
    check_contiguous(entry, integers(tensor.items[3], entry.key), *elements);

    const PickleValue& first_element = pickle_[tensor.items[1]];
    std::uint64_t skip_bytes = 0;
    if (first_element.kind != PickleKind::integer || first_element.integer < 0 ||
        __builtin_mul_overflow(static_cast<std::uint64_t>(first_element.integer), type.element_bytes, &skip_bytes)) {
      refuse_tensor(file_.name(), entry.key, "its offset in its storage is out of range");
    }
    const Payload payload = find_payload(storage, storage_type.element_bytes, entry.key);
    if (skip_bytes > payload.size_bytes || entry.size_bytes > payload.size_bytes - skip_bytes) {
      refuse_tensor(file_.name(), entry.key, "it passes the end of its storage");
    }
    entry.offset_bytes = payload.offset_bytes + skip_bytes;
    table_.tensors.push_back(std::move(entry));
  }

  const AllowedGlobal& global(PickleId id) const {
    return allowed_globals()[static_cast<std::size_t>(pickle_[id].integer)];
  }

  /// The element type of a tensor over untyped bytes.
  const AllowedGlobal& dtype_argument(const PickleValue& tensor, std::string_view key) const {
    const PickleId id = tensor.items[6];
    if (pickle_[id].kind != PickleKind::global || global(id).role != GlobalRole::dtype) {
      refuse_tensor(file_.name(), key, "its element type is malformed");
    }
    return global(id);
  }

  static std::optional<DType> dtype_of(std::string_view name) {
    for (const DType dtype : {DType::float32, DType::float16, DType::bfloat16, DType::float64}) {
      if (name == dtype_name(dtype)) return dtype;
    }
    return std::nullopt;
  }

  std::vector<std::int64_t> integers(PickleId id, std::string_view key) const {
    const PickleValue& tuple = pickle_[id];
    if (tuple.kind != PickleKind::tuple || tuple.items.size() > max_num_axes) {
      refuse_tensor(file_.name(), key, "its shape or strides are not a tuple of at most 64 numbers");
    }
    std::vector<std::int64_t> numbers;
    for (const PickleId item : tuple.items) {
      if (pickle_[item].kind != PickleKind::integer)
        refuse_tensor(file_.name(), key, "its shape is not made of integers");
      numbers.push_back(pickle_[item].integer);
    }
    return numbers;
  }

  /// `num_elements` of the shape must not have overflowed. Strides of axes of length 1 say nothing.
  void check_contiguous(const CheckpointTensor& tensor, const std::vector<std::int64_t>& strides,
                        std::uint64_t elements) const {
    if (strides.size() != tensor.shape.size())
      refuse_tensor(file_.name(), tensor.key, "its strides do not fit its shape");
    if (elements == 0) return;
    std::uint64_t expected = 1;
    for (std::size_t axis = strides.size(); axis-- > 0;) {
      if (tensor.shape[axis] == 1) continue;
      if (strides[axis] < 0 || static_cast<std::uint64_t>(strides[axis]) != expected) {
        refuse_tensor(file_.name(), tensor.key, "it is not contiguous (a transposed or strided view)",
                      "Save the checkpoint again with .contiguous() tensors, or as safetensors");
      }
      expected *= static_cast<std::uint64_t>(tensor.shape[axis]);
    }
  }

  struct Payload {
    std::uint64_t offset_bytes = 0;
    std::uint64_t size_bytes = 0;
  };

  Payload find_payload(const PickleValue& storage, std::uint64_t element_bytes, std::string_view key) {
    const std::string_view storage_key = pickle_[storage.items[2]].text;
    const std::int64_t elements = pickle_[storage.items[4]].integer;
    const auto [found, is_new] = payloads_.try_emplace(storage_key);
    if (is_new) {
      const ZipRecord* record = directory_.find(fmt::format("{}/data/{}", prefix_, storage_key));
      if (record == nullptr) {
        refuse_tensor(file_.name(), key, fmt::format("record data/{} is missing", quote_name(storage_key)));
      }
      found->second = {directory_.payload_offset_bytes(*record), record->size_bytes};
    }
    std::uint64_t expected_bytes = 0;
    if (elements < 0 || __builtin_mul_overflow(static_cast<std::uint64_t>(elements), element_bytes, &expected_bytes) ||
        expected_bytes != found->second.size_bytes) {
      refuse_tensor(file_.name(), key,
                    fmt::format("record data/{} has {} bytes, which is not what its {} elements take",
                                quote_name(storage_key), found->second.size_bytes, elements));
    }
    return found->second;
  }

  const ByteSource& file_;
  ZipDirectory directory_;
  std::string prefix_;
  std::vector<std::byte> pickle_bytes_;
  Pickle pickle_;                                           // its texts point into pickle_bytes_
  std::unordered_map<std::string_view, Payload> payloads_;  // by storage key; tensors may share one
  FileTable table_;
};

}  // namespace

FileTable read_torch_archive(const ByteSource& file) {
  check_is_zip(file);
  return ArchiveReader(file).read();
}

}  // namespace flexgen::checkpoint

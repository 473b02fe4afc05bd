#include "weights/checkpoint/safetensors.hpp"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <array>
#include <limits>
#include <tuple>
#include <unordered_set>
#include <utility>

#include "weights/checkpoint/json_events.hpp"
#include "weights/checkpoint/refusal.hpp"

namespace flexgen::checkpoint {

namespace {

constexpr std::uint64_t length_bytes = 8;
constexpr std::uint64_t max_header_bytes = 100'000'000;

struct HeaderEntry {
  std::string key{};
  std::string dtype{};
  std::vector<std::int64_t> shape{};
  std::vector<std::uint64_t> data_offsets{};  // begin, end; relative to the data
  bool has_shape = false;
  bool has_data_offsets = false;
};

struct FileDType {
  std::string_view name;
  std::uint64_t bits;
  std::optional<DType> ours;
};
constexpr std::array file_dtypes{FileDType{"F32", 32, DType::float32},
                                 FileDType{"F16", 16, DType::float16},
                                 FileDType{"BF16", 16, DType::bfloat16},
                                 FileDType{"F64", 64, DType::float64},
                                 FileDType{"I64", 64, {}},
                                 FileDType{"U64", 64, {}},
                                 FileDType{"I32", 32, {}},
                                 FileDType{"U32", 32, {}},
                                 FileDType{"I16", 16, {}},
                                 FileDType{"U16", 16, {}},
                                 FileDType{"I8", 8, {}},
                                 FileDType{"U8", 8, {}},
                                 FileDType{"BOOL", 8, {}},
                                 FileDType{"F8_E4M3", 8, {}},
                                 FileDType{"F8_E5M2", 8, {}},
                                 FileDType{"F8_E8M0", 8, {}},
                                 FileDType{"C64", 64, {}}};

/// Grammar: { "__metadata__": {anything}, key: {"dtype": text, "shape": [n ...], "data_offsets": [n, n]} ... }
class HeaderEvents final : public JsonEvents {
 public:
  using JsonEvents::JsonEvents;
  std::vector<HeaderEntry> entries;

 private:
  enum class Field { none, dtype, shape, data_offsets };

  void on_open(char bracket) override {
    ++depth_;
    if (in_metadata_ || depth_ == 1) return;
    const bool is_tensor = depth_ == 2 && bracket == '{';
    const bool is_list = depth_ == 3 && bracket == '[' && (field_ == Field::shape || field_ == Field::data_offsets);
    if (!is_tensor && !is_list) unexpected();
  }

  void on_close() override {
    --depth_;
    if (depth_ == 2) field_ = Field::none;
    if (depth_ != 1) return;
    if (!std::exchange(in_metadata_, false)) check_complete(entries.back());
  }

  void on_key(std::string& key) override {
    if (in_metadata_) return;
    if (depth_ == 1) {
      if (!keys_.insert(key).second) refuse_tensor(file(), key, "its key occurs twice in the header");
      in_metadata_ = key == "__metadata__";
      if (!in_metadata_) entries.push_back({.key = std::move(key)});
      return;
    }
    HeaderEntry& entry = entries.back();
    if (key == "dtype" && entry.dtype.empty()) {
      field_ = Field::dtype;
    } else if (key == "shape" && !std::exchange(entry.has_shape, true)) {
      field_ = Field::shape;
    } else if (key == "data_offsets" && !std::exchange(entry.has_data_offsets, true)) {
      field_ = Field::data_offsets;
    } else {
      refuse_tensor(file(), entry.key, fmt::format("its header has an unknown or repeated field {}", quote_name(key)));
    }
  }

  void on_string(std::string& value) override {
    if (in_metadata_ && depth_ > 1) return;
    if (depth_ != 2 || field_ != Field::dtype || value.empty()) unexpected();
    entries.back().dtype = std::move(value);
    field_ = Field::none;
  }

  void on_count(std::uint64_t value) override {
    if (in_metadata_ && depth_ > 1) return;
    if (depth_ != 3) unexpected();
    HeaderEntry& entry = entries.back();
    if (field_ == Field::shape) {
      if (value > static_cast<std::uint64_t>(std::numeric_limits<std::int64_t>::max())) unexpected();
      if (entry.shape.size() == max_num_axes) refuse_tensor(file(), entry.key, "it has more than 64 axes");
      entry.shape.push_back(static_cast<std::int64_t>(value));
    } else {
      if (entry.data_offsets.size() == 2) unexpected();
      entry.data_offsets.push_back(value);
    }
  }

  void on_other() override {
    if (!in_metadata_ || depth_ <= 1) unexpected();
  }

  void check_complete(const HeaderEntry& entry) const {
    if (entry.dtype.empty() || !entry.has_shape || entry.data_offsets.size() != 2) {
      refuse_tensor(file(), entry.key, "its header lacks dtype, shape or data_offsets");
    }
  }

  [[noreturn]] void unexpected() const {
    if (entries.empty()) refuse_file(file(), "its header does not list tensors");
    refuse_tensor(file(), entries.back().key, "its header is not {dtype, shape, data_offsets}");
  }

  std::unordered_set<std::string> keys_;
  std::size_t depth_ = 0;
  bool in_metadata_ = false;
  Field field_ = Field::none;
};

std::vector<HeaderEntry> read_header(const ByteSource& file, std::uint64_t& data_offset_bytes) {
  std::array<std::byte, length_bytes> length{};
  file.read(0, length, "the header length");
  const auto header_bytes = load_little_endian<std::uint64_t>(length);
  if (header_bytes > max_header_bytes) {
    refuse_file(file.name(), fmt::format("its header would have {} bytes: it is not a safetensors file", header_bytes));
  }
  if (header_bytes > file.size_bytes() - length_bytes) {
    refuse_file(file.name(), fmt::format("its header should have {} bytes, but the file ends after {}: it is truncated",
                                         header_bytes, file.size_bytes()));
  }
  std::string header(header_bytes, '\0');
  file.read(length_bytes, std::as_writable_bytes(std::span(header)), "the header");
  data_offset_bytes = length_bytes + header_bytes;
  HeaderEvents events(file.name());
  parse_json_object(header, file.name(), events);
  return std::move(events.entries);
}

/// The tensors, in order of offset, must fill the data exactly.
void check_layout(std::vector<HeaderEntry>& entries, std::uint64_t data_bytes, const std::string& file) {
  std::ranges::sort(entries, {}, [](const HeaderEntry& entry) {
    return std::tuple(entry.data_offsets[0], entry.data_offsets[1], std::string_view(entry.key));
  });
  std::uint64_t filled_bytes = 0;
  for (const HeaderEntry& entry : entries) {
    const std::uint64_t begin = entry.data_offsets[0];
    const std::uint64_t end = entry.data_offsets[1];
    if (end < begin) refuse_tensor(file, entry.key, fmt::format("its offsets run backwards ({} to {})", begin, end));
    if (end > data_bytes) {
      refuse_tensor(
          file, entry.key,
          fmt::format("its bytes end at {} of the data, which has {}: the file is truncated", end, data_bytes));
    }
    if (begin < filled_bytes) refuse_tensor(file, entry.key, "its bytes overlap those of another tensor");
    if (begin > filled_bytes) {
      refuse_tensor(file, entry.key, fmt::format("bytes {} to {} before it belong to no tensor", filled_bytes, begin));
    }
    filled_bytes = end;
  }
  if (filled_bytes != data_bytes) {
    refuse_file(file, fmt::format("its last {} bytes belong to no tensor", data_bytes - filled_bytes));
  }
}

void check_size(const HeaderEntry& entry, const FileDType& dtype, const std::string& file) {
  const std::uint64_t size_bytes = entry.data_offsets[1] - entry.data_offsets[0];
  const auto elements = num_elements(entry.shape);
  std::uint64_t expected_bytes = 0;
  if (!elements || __builtin_mul_overflow(*elements, dtype.bits / 8, &expected_bytes) || expected_bytes != size_bytes) {
    refuse_tensor(file, entry.key,
                  fmt::format("it has {} bytes, which is not what shape [{}] of {} takes", size_bytes,
                              fmt::join(entry.shape, ", "), dtype.name));
  }
}

}  // namespace

FileTable read_safetensors(const ByteSource& file) {
  std::uint64_t data_offset_bytes = 0;
  std::vector<HeaderEntry> entries = read_header(file, data_offset_bytes);
  check_layout(entries, file.size_bytes() - data_offset_bytes, file.name());

  FileTable table;
  for (HeaderEntry& entry : entries) {
    const auto dtype = std::ranges::find(file_dtypes, std::string_view(entry.dtype), &FileDType::name);
    if (dtype != file_dtypes.end()) check_size(entry, *dtype, file.name());
    if (dtype == file_dtypes.end() || !dtype->ours) {
      table.unsupported.push_back({.key = std::move(entry.key),
                                   .dtype = std::move(entry.dtype),
                                   .offset_bytes = data_offset_bytes + entry.data_offsets[0],
                                   .size_bytes = entry.data_offsets[1] - entry.data_offsets[0]});
      continue;
    }
    table.tensors.push_back({.key = std::move(entry.key),
                             .dtype = *dtype->ours,
                             .shape = std::move(entry.shape),
                             .offset_bytes = data_offset_bytes + entry.data_offsets[0],
                             .size_bytes = entry.data_offsets[1] - entry.data_offsets[0]});
  }
  return table;
}

}  // namespace flexgen::checkpoint

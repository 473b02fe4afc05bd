// Small checkpoint files made in memory, field by field, so that a test can break any of them.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "weights/checkpoint/byte_source.hpp"
#include "weights/checkpoint/tensor_table.hpp"

namespace flexgen::checkpoint {

inline std::span<const std::byte> bytes_of(std::string_view text) { return std::as_bytes(std::span(text)); }

inline std::string little_endian(std::uint64_t value, std::size_t num_bytes) {
  std::string text;
  for (std::size_t i = 0; i < num_bytes; ++i) text += static_cast<char>((value >> (8 * i)) & 0xff);
  return text;
}

/// A safetensors file of this header and so many bytes of data.
inline std::string safetensors_file(std::string_view header, std::size_t data_bytes) {
  return little_endian(header.size(), 8) + std::string(header) + std::string(data_bytes, 'd');
}

struct TestRecord {
  std::string name;
  std::string payload;
  std::uint16_t method = 0;
  std::uint16_t flags = 0;
};

struct ZipOptions {
  bool zip64 = false;           // sizes, offsets and the end in their 64-bit form
  std::size_t extra_bytes = 0;  // extra field of the local headers only, as PyTorch pads
  std::string comment{};
};

/// A stored zip archive as PyTorch writes it: sizes only in the directory (flag bit 3).
inline std::string zip_file(const std::vector<TestRecord>& records, const ZipOptions& options = {}) {
  std::string file;
  std::string directory;
  for (const TestRecord& record : records) {
    const std::uint64_t offset = file.size();
    file += "PK\x03\x04" + little_endian(20, 2) + little_endian(record.flags | 8u, 2) +
            little_endian(record.method, 2) + std::string(4, '\0') + std::string(12, '\0') +
            little_endian(record.name.size(), 2) + little_endian(options.extra_bytes, 2) + record.name +
            std::string(options.extra_bytes, 'Z') + record.payload;
    const std::uint64_t size = record.payload.size();
    const std::uint64_t narrow = options.zip64 ? 0xffffffffu : size;
    const std::string wide = little_endian(1, 2) + little_endian(24, 2) + little_endian(size, 8) +
                             little_endian(size, 8) + little_endian(offset, 8);
    const std::string other_extra = little_endian(0x7777, 2) + little_endian(3, 2) + "abc";
    const std::string extra = options.zip64 ? other_extra + wide : "";
    directory += "PK\x01\x02" + little_endian(20, 2) + little_endian(20, 2) + little_endian(record.flags | 8u, 2) +
                 little_endian(record.method, 2) + std::string(8, '\0') + little_endian(narrow, 4) +
                 little_endian(narrow, 4) + little_endian(record.name.size(), 2) + little_endian(extra.size(), 2) +
                 std::string(10, '\0') + little_endian(options.zip64 ? 0xffffffffu : offset, 4) + record.name + extra;
  }
  const std::uint64_t directory_offset = file.size();
  file += directory;
  if (options.zip64) {
    const std::uint64_t end_offset = file.size();
    file += "PK\x06\x06" + little_endian(44, 8) + little_endian(45, 2) + little_endian(45, 2) + std::string(8, '\0') +
            little_endian(records.size(), 8) + little_endian(records.size(), 8) + little_endian(directory.size(), 8) +
            little_endian(directory_offset, 8);
    file += "PK\x06\x07" + std::string(4, '\0') + little_endian(end_offset, 8) + little_endian(1, 4);
  }
  const auto narrow = [&](std::uint64_t value, std::size_t num_bytes) {
    return options.zip64 ? std::string(num_bytes, '\xff') : little_endian(value, num_bytes);
  };
  return file + "PK\x05\x06" + std::string(4, '\0') + narrow(records.size(), 2) + narrow(records.size(), 2) +
         narrow(directory.size(), 4) + narrow(directory_offset, 4) + little_endian(options.comment.size(), 2) +
         options.comment;
}

// Pieces of protocol-2 pickles.
inline std::string pickle_text(std::string_view text) {
  return "X" + little_endian(text.size(), 4) + std::string(text);
}
inline std::string pickle_int(std::int64_t value) {
  return "\x8a\x08" + little_endian(static_cast<std::uint64_t>(value), 8);
}
inline std::string pickle_tuple(const std::vector<std::int64_t>& values) {
  std::string text = "(";
  for (const std::int64_t value : values) text += pickle_int(value);
  return text + "t";
}

struct TestTensor {
  std::string storage_type = "FloatStorage";
  std::string storage_key = "0";
  std::int64_t storage_elements = 6;
  std::int64_t first_element = 0;
  std::vector<std::int64_t> shape = {2, 3};
  std::vector<std::int64_t> strides = {3, 1};
};

inline std::string pickle_tensor(const TestTensor& tensor) {
  return "ctorch._utils\n_rebuild_tensor_v2\n((" + pickle_text("storage") + "ctorch\n" + tensor.storage_type + "\n" +
         pickle_text(tensor.storage_key) + pickle_text("cpu") + pickle_int(tensor.storage_elements) + "tQ" +
         pickle_int(tensor.first_element) + pickle_tuple(tensor.shape) + pickle_tuple(tensor.strides) +
         "\x89"
         "ccollections\nOrderedDict\n)RtR";
}

/// {"weight": tensor}
inline std::string pickle_state_dict(const TestTensor& tensor) {
  return "\x80\x02}(" + pickle_text("weight") + pickle_tensor(tensor) + "u.";
}

/// An archive of this pickle and one storage of 24 bytes.
inline std::string torch_file(std::string_view pickle, const ZipOptions& options = {}) {
  return zip_file({{"archive/data.pkl", std::string(pickle)},
                   {"archive/byteorder", "little"},
                   {"archive/data/0", "0123456789abcdefghijklmn"},
                   {"archive/version", "3\n"}},
                  options);
}

}  // namespace flexgen::checkpoint

// Central directory of a zip archive whose records are stored uncompressed, as PyTorch writes them.
//
// Immutable; borrows the ByteSource, which must outlive it.
// Source: PKWARE APPNOTE 6.3, sections 4.3.7 (local header), 4.3.12 (directory), 4.3.14-16 (ends, zip64).
#pragma once

#include <cstdint>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "weights/checkpoint/byte_source.hpp"

namespace flexgen::checkpoint {

struct ZipRecord {
  std::string_view name;  // lives as long as the directory
  std::uint64_t size_bytes = 0;
  std::uint64_t stored_bytes = 0;
  std::uint64_t local_header_offset_bytes = 0;
  std::uint16_t method = 0;  // 0: stored
  std::uint16_t flags = 0;
};

class ZipDirectory {
 public:
  /// Reads the directory. Throws UserError (model) when the file is no whole, single-part zip archive or holds a
  /// name twice.
  explicit ZipDirectory(const ByteSource& file);
  ZipDirectory(const ZipDirectory&) = delete;
  ZipDirectory& operator=(const ZipDirectory&) = delete;

  const ZipRecord* find(std::string_view name) const;  // null when absent
  const std::vector<ZipRecord>& records() const { return records_; }

  /// Where the record's bytes begin in the file. Throws UserError (model) when they are compressed or encrypted, or
  /// do not lie between their local header and the directory.
  std::uint64_t payload_offset_bytes(const ZipRecord& record) const;

  /// The record's bytes; refuses more than `max_bytes`.
  std::vector<std::byte> read(const ZipRecord& record, std::uint64_t max_bytes) const;

 private:
  struct End {
    std::uint64_t num_records = 0;
    std::uint64_t directory_bytes = 0;
    std::uint64_t directory_offset_bytes = 0;
  };
  End find_end() const;
  End read_zip64_end(std::uint64_t locator_offset_bytes, const End& end) const;
  std::size_t add_record(std::span<const std::byte> entry);  // returns the bytes it took
  [[noreturn]] void refuse(std::string_view reason) const;

  const ByteSource& file_;
  std::uint64_t directory_offset_bytes_ = 0;
  std::vector<std::byte> directory_;
  std::vector<ZipRecord> records_;
  std::unordered_map<std::string_view, std::size_t> record_by_name_;
};

}  // namespace flexgen::checkpoint

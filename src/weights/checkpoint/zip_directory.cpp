#include "weights/checkpoint/zip_directory.hpp"

#include <fmt/core.h>

#include <algorithm>
#include <array>

#include "base/bytes.hpp"
#include "weights/checkpoint/refusal.hpp"

namespace flexgen::checkpoint {

namespace {

constexpr std::uint32_t local_signature = 0x04034b50;
constexpr std::uint32_t entry_signature = 0x02014b50;
constexpr std::uint32_t end_signature = 0x06054b50;
constexpr std::uint32_t zip64_locator_signature = 0x07064b50;
constexpr std::uint32_t zip64_end_signature = 0x06064b50;

constexpr std::size_t local_header_bytes = 30;
constexpr std::size_t entry_bytes = 46;
constexpr std::size_t end_bytes = 22;
constexpr std::size_t zip64_locator_bytes = 20;
constexpr std::size_t zip64_end_bytes = 56;
constexpr std::size_t max_comment_bytes = 0xffff;
constexpr std::uint64_t max_directory_bytes = 64 * MiB;

constexpr std::uint16_t flag_encrypted = 1;
constexpr std::uint16_t zip64_extra_id = 1;
constexpr std::uint32_t in_zip64 = 0xffffffff;  // "the value is in the zip64 extra field"

using Bytes = std::span<const std::byte>;

std::uint16_t u16(Bytes bytes, std::size_t at) { return load_little_endian<std::uint16_t>(bytes.subspan(at, 2)); }
std::uint32_t u32(Bytes bytes, std::size_t at) { return load_little_endian<std::uint32_t>(bytes.subspan(at, 4)); }
std::uint64_t u64(Bytes bytes, std::size_t at) { return load_little_endian<std::uint64_t>(bytes.subspan(at, 8)); }

/// The zip64 field among an entry's extra fields; empty when there is none.
Bytes find_zip64_extra(Bytes extra) {
  while (extra.size() >= 4) {
    const std::size_t size = u16(extra, 2);
    if (size > extra.size() - 4) return {};
    if (u16(extra, 0) == zip64_extra_id) return extra.subspan(4, size);
    extra = extra.subspan(4 + size);
  }
  return {};
}

/// Replaces a 32-bit escape by the next value of the zip64 field; false when the field is too short.
bool widen(std::uint64_t& value, Bytes& zip64) {
  if (value != in_zip64) return true;
  if (zip64.size() < 8) return false;
  value = u64(zip64, 0);
  zip64 = zip64.subspan(8);
  return true;
}

}  // namespace

ZipDirectory::ZipDirectory(const ByteSource& file) : file_(file) {
  const End end = find_end();
  if (end.directory_bytes > max_directory_bytes) refuse("its zip directory has more than 64 MiB");
  if (end.num_records > end.directory_bytes / entry_bytes) refuse("its zip directory is too short for its records");
  directory_offset_bytes_ = end.directory_offset_bytes;
  if (end.directory_offset_bytes > file_.size_bytes() ||
      end.directory_bytes > file_.size_bytes() - end.directory_offset_bytes) {
    refuse("its zip directory passes the end of the file");
  }
  directory_.resize(end.directory_bytes);
  file_.read(end.directory_offset_bytes, directory_, "the zip directory");

  Bytes rest = directory_;
  records_.reserve(end.num_records);
  for (std::uint64_t i = 0; i < end.num_records; ++i) rest = rest.subspan(add_record(rest));
}

ZipDirectory::End ZipDirectory::find_end() const {
  const std::uint64_t size = file_.size_bytes();
  const std::uint64_t tail_bytes = std::min<std::uint64_t>(size, end_bytes + max_comment_bytes);
  std::vector<std::byte> tail(tail_bytes);
  file_.read(size - tail_bytes, tail, "the end of the zip archive");
  for (std::size_t back = end_bytes; back <= tail.size(); ++back) {
    const Bytes candidate = Bytes(tail).last(back);
    // The comment must reach the end of the file exactly, so that payload bytes are not taken for the end record.
    if (u32(candidate, 0) != end_signature || u16(candidate, 20) != back - end_bytes) continue;
    if (u16(candidate, 4) != u16(candidate, 6)) refuse("it is one part of a split zip archive");
    const End end{u16(candidate, 10), u32(candidate, 12), u32(candidate, 16)};
    const std::uint64_t end_offset = size - back;
    return end_offset < zip64_locator_bytes ? end : read_zip64_end(end_offset - zip64_locator_bytes, end);
  }
  refuse("it has no zip end record: it is truncated");
}

ZipDirectory::End ZipDirectory::read_zip64_end(std::uint64_t locator_offset_bytes, const End& end) const {
  std::array<std::byte, zip64_locator_bytes> locator{};
  file_.read(locator_offset_bytes, locator, "the zip64 locator");
  if (u32(locator, 0) != zip64_locator_signature) return end;
  std::array<std::byte, zip64_end_bytes> zip64{};
  file_.read(u64(locator, 8), zip64, "the zip64 end record");
  if (u32(zip64, 0) != zip64_end_signature) refuse("its zip64 end record is damaged");
  if (u32(zip64, 16) != u32(zip64, 20)) refuse("it is one part of a split zip archive");
  return {u64(zip64, 32), u64(zip64, 40), u64(zip64, 48)};
}

std::size_t ZipDirectory::add_record(Bytes entry) {
  if (entry.size() < entry_bytes || u32(entry, 0) != entry_signature) refuse("its zip directory is damaged");
  const std::size_t name_bytes = u16(entry, 28);
  const std::size_t extra_bytes = u16(entry, 30);
  const std::size_t total_bytes = entry_bytes + name_bytes + extra_bytes + u16(entry, 32);
  if (entry.size() < total_bytes) refuse("its zip directory is cut short");

  ZipRecord record;
  record.name = as_text(entry.subspan(entry_bytes, name_bytes));
  record.flags = u16(entry, 8);
  record.method = u16(entry, 10);
  record.stored_bytes = u32(entry, 20);
  record.size_bytes = u32(entry, 24);
  record.local_header_offset_bytes = u32(entry, 42);
  Bytes zip64 = find_zip64_extra(entry.subspan(entry_bytes + name_bytes, extra_bytes));
  if (!widen(record.size_bytes, zip64) || !widen(record.stored_bytes, zip64) ||
      !widen(record.local_header_offset_bytes, zip64)) {
    refuse(fmt::format("the zip64 sizes of record {} are missing", quote_name(record.name)));
  }
  if (!record_by_name_.emplace(record.name, records_.size()).second) {
    refuse(fmt::format("it holds record {} twice", quote_name(record.name)));
  }
  records_.push_back(record);
  return total_bytes;
}

const ZipRecord* ZipDirectory::find(std::string_view name) const {
  const auto found = record_by_name_.find(name);
  return found == record_by_name_.end() ? nullptr : &records_[found->second];
}

std::uint64_t ZipDirectory::payload_offset_bytes(const ZipRecord& record) const {
  const std::string name = quote_name(record.name);
  if (record.flags & flag_encrypted) refuse(fmt::format("record {} is encrypted", name));
  if (record.method != 0 || record.stored_bytes != record.size_bytes) {
    refuse_file(file_.name(), fmt::format("record {} is compressed, so that it cannot be read in place", name),
                "Save the checkpoint again with torch.save, or as safetensors");
  }
  std::vector<std::byte> header(local_header_bytes + record.name.size());
  file_.read(record.local_header_offset_bytes, header, fmt::format("the header of record {}", name));
  const Bytes bytes = header;
  // The sizes of the local header may be left open (bit 3), so only the directory's count.
  if (u32(bytes, 0) != local_signature || u16(bytes, 26) != record.name.size() ||
      as_text(bytes.subspan(local_header_bytes)) != record.name) {
    refuse(fmt::format("the header of record {} is damaged", name));
  }
  const std::uint64_t offset = record.local_header_offset_bytes + header.size() + u16(bytes, 28);
  if (offset > directory_offset_bytes_ || record.size_bytes > directory_offset_bytes_ - offset) {
    refuse(fmt::format("record {} passes the end of the archive's data", name));
  }
  return offset;
}

std::vector<std::byte> ZipDirectory::read(const ZipRecord& record, std::uint64_t max_bytes) const {
  const std::uint64_t offset = payload_offset_bytes(record);
  if (record.size_bytes > max_bytes) {
    refuse(fmt::format("record {} has {} bytes, more than the {} that we accept", quote_name(record.name),
                       record.size_bytes, max_bytes));
  }
  std::vector<std::byte> bytes(record.size_bytes);
  file_.read(offset, bytes, fmt::format("record {}", quote_name(record.name)));
  return bytes;
}

void ZipDirectory::refuse(std::string_view reason) const { refuse_file(file_.name(), reason); }

}  // namespace flexgen::checkpoint

// What a journal is made of: lines of text, each with a checksum of its own in front.
//
// A journal begins with a head. A row's record names where its line stands in a file of the output, or holds the line
// itself where it has to wait; another record says when such lines have gone to their file. Each record that is about
// a file carries the file's size behind it and the checksum of all that stands before: the file's own bytes judge
// whether the record came true (decisions/0012).
//
// Pure functions on values. Source: our own format, version 1; CRC-32 as zlib computes it.
#pragma once

#include <array>
#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "job/output/done_rows.hpp"

namespace flexgen {

/// All that decides what stands in the output, by name: "the input", "--gen-len", ...
using JobIdentity = std::map<std::string, std::string>;

/// What of a finished row a later run has to know: whether it failed, what was scored.
struct RowOutcome {
  bool has_failed = false;
  double log_probability = 0;       // of a row that is scored: the sum over its tokens
  std::uint64_t scored_tokens = 0;  // of a row that is scored
};

/// Of rows that are done, together.
struct RowTotals {
  std::uint64_t rows = 0;
  std::uint64_t failed_rows = 0;
  double log_probability = 0;
  std::uint64_t scored_tokens = 0;

  void add(const RowOutcome& row);
};

/// Files of an output: results, and errors where those have a file of their own.
constexpr std::size_t max_output_files = 2;

/// A file of the output up to some place.
struct FilePrefix {
  std::uint64_t end_bytes = 0;
  std::uint32_t checksum = 0;  // CRC-32 of these bytes

  bool operator==(const FilePrefix&) const = default;
};

struct HeadRecord {
  std::int64_t created = 0;  // the job's first start, seconds since 1970
  JobIdentity identity;
  JobIdentity found;  // what a run has chosen by itself, and all others have to keep to
};
/// All that was known when the journal was written anew; every byte up to `files` is on the disk.
struct BaseRecord {
  DoneRows done;
  RowTotals totals;
  std::array<FilePrefix, max_output_files> files;
};
/// A row's line is the last of `prefix`.
struct RowRecord {
  std::uint64_t ordinal = 0;
  std::size_t file = 0;
  RowOutcome outcome;
  FilePrefix prefix;
};
/// A row is done, and its line, without newline, waits here.
struct HeldRecord {
  std::uint64_t ordinal = 0;
  std::size_t file = 0;
  RowOutcome outcome;
  std::string_view line;  // of the text that was parsed, or of the caller
};
/// Lines that waited are the last of `prefix`.
struct ReleaseRecord {
  std::size_t file = 0;
  FilePrefix prefix;
  std::vector<std::uint64_t> ordinals;  // >= 1
};
/// So much of each file is on the disk.
struct SyncRecord {
  std::array<std::uint64_t, max_output_files> end_bytes{};
};
/// All rows of the input are done.
struct CompleteRecord {};

using JournalRecord =
    std::variant<HeadRecord, BaseRecord, RowRecord, HeldRecord, ReleaseRecord, SyncRecord, CompleteRecord>;

/// One line with its newline, appended to `text`.
void append_record(const JournalRecord& record, std::string& text);

/// Nothing where the line, without its newline, is torn, changed, or of another version.
std::optional<JournalRecord> parse_record(std::string_view line);

/// CRC-32 of bytes that follow those which gave `before`.
std::uint32_t checksum(std::string_view bytes, std::uint32_t before = 0);

}  // namespace flexgen

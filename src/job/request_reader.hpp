// The rows of a job's inputs, one behind the other: JSONL, CSV, TSV, Parquet, packed or not (job/input/).
//
// Blank lines are skipped; CRLF, a UTF-8 byte-order mark and a last line without newline are fine. A custom_id that was
// already used, in whichever input, makes the later row an error whose own id is "line-17", so that it cannot be taken
// for the result of the first.
//
// Owns its inputs. One thread reads at a time; `share_read` and `interrupt` may be called by others.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

#include "base/bytes.hpp"
#include "job/input/input_format.hpp"
#include "job/input/known_ids.hpp"
#include "job/request.hpp"

namespace flexgen {

struct InputFault;
struct Record;
class RecordSource;

class RequestReader {
 public:
  static constexpr std::size_t default_max_line_bytes = 64 * MiB;

  /// Opens all, reads the beginning of the first, and waits for it. Throws UserError (file) when one cannot be opened,
  /// or is of a kind that holds no rows (UTF-16, one JSON array, an archive, ...).
  RequestReader(InputFiles inputs, RequestDefaults defaults, std::size_t max_line_bytes = default_max_line_bytes);
  /// Of one input, whose form is told by its name.
  RequestReader(std::string path, RequestDefaults defaults, std::size_t max_line_bytes = default_max_line_bytes)
      : RequestReader(InputFiles{{std::move(path)}}, std::move(defaults), max_line_bytes) {}
  RequestReader(const RequestReader&) = delete;
  RequestReader& operator=(const RequestReader&) = delete;
  ~RequestReader();

  /// The next row; nothing at the end of the last input. Throws UserError (file) where an input breaks off: the rows
  /// before that have been given.
  std::optional<ParsedRow> next();

  /// Bytes that the last row took in its input, unpacked.
  std::size_t row_bytes() const { return row_bytes_; }
  /// Of all inputs' bytes those that were read, 0 .. 1; nothing where one is no regular file.
  std::optional<double> share_read() const;
  /// Has a read that waits for bytes, and every later one, throw.
  void interrupt();

  /// Says which fields of the rows so far were not read (Request::unread_fields), the first eight of them; empty
  /// where all were.
  std::string describe_unread_fields() const;

 private:
  struct UnreadField {
    std::string name;
    std::uint64_t first_place = 0;
    std::size_t num_rows = 0;
  };
  struct Input {
    std::string path;
    std::optional<std::uint64_t> size = 0;  // bytes, of a regular file
    std::uint64_t first_place = 0;          // lines of the inputs before it: with its own lines a place in all
  };

  void open_current();
  bool next_record(Record& record);
  [[noreturn]] void fail(const InputFault& fault) const;
  ParsedRow parse(const Record& record) const;
  void settle_custom_id(ParsedRow& row);
  void count_unread_fields(const Request& request);
  std::string line_id() const;
  std::string unused_line_id() const;
  std::string describe_place(std::uint64_t place) const;

  RequestDefaults defaults_;
  std::size_t max_line_bytes_;
  InputFormat format_;
  std::vector<Input> inputs_;
  std::size_t current_ = 0;                // of these
  std::unique_ptr<RecordSource> records_;  // of the current one; null: all are read
  mutable std::mutex records_mutex_;       // of it and of the inputs' sizes: others look at them
  bool is_interrupted_ = false;
  std::size_t line_number_ = 0;  // of the last row, in its input
  std::uint64_t num_rows_ = 0;
  std::size_t row_bytes_ = 0;
  KnownIds ids_;
  std::vector<UnreadField> unread_fields_;
  std::uint64_t bytes_before_ = 0;           // of the inputs before the current one
  std::atomic<std::uint64_t> num_read_ = 0;  // bytes of all
};

}  // namespace flexgen

// The records of one input, each of which is a row: lines of JSON, records of a table.
//
// Private to the room (its header shows the JSON library). One thread reads.
#pragma once

#include <cstddef>
#include <memory>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <string_view>

#include "job/input/input_format.hpp"
#include "job/input/input_text.hpp"

namespace flexgen {

struct Record {
  struct Problem {
    std::string code;
    std::string message;  // what, why, what to do
  };

  std::size_t line_number = 0;  // on which it begins, from 1
  std::size_t num_bytes = 0;
  std::string_view text;  // of JSON: until the next record is read; of one that is too long its beginning
  std::optional<nlohmann::json> fields;  // of a table: an object
  std::optional<Problem> problem;        // why there is no row
};

class RecordSource {
 public:
  virtual ~RecordSource() = default;
  /// False at the end, now and ever after. Throws InputFault.
  virtual bool next(Record& record) = 0;
  /// Of the input's bytes, as they lie on the disk, those that were read, and all; nothing for what is no regular file.
  struct Extent {
    std::uint64_t num_read = 0;
    std::uint64_t size = 0;
  };
  virtual std::optional<Extent> extent() const = 0;
  /// Any thread: has a read that waits for bytes end with an InputFault.
  virtual void interrupt() = 0;
};

/// Opens an input in one of its forms; reads the beginning, and waits for it.
/// Throws UserError (file) where it cannot be opened or is of a kind that holds no rows, InputFault.
std::unique_ptr<RecordSource> open_records(const std::string& path, InputFormat format, std::size_t max_record_bytes);

}  // namespace flexgen

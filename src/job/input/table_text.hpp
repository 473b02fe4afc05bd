// Records of a table in text: RFC 4180, with commas, semicolons or tabs.
//
// A field that begins with a quote ends at the next one that is not doubled, and may hold separators and line ends. A
// record that breaks the rules costs itself alone; one whose quote never ends says where that began.
//
// Private to the room. One thread reads.
#pragma once

#include <cstddef>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "job/input/input_text.hpp"

namespace flexgen {

struct TableRecord {
  std::vector<std::string> fields;
  std::size_t line_number = 0;  // on which it begins, from 1
  std::size_t num_bytes = 0;
  std::string fault;  // "line 3 has a NUL byte"; empty: it is sound
};

class TableText {
 public:
  TableText(std::unique_ptr<InputText> text, char separator, std::size_t max_record_bytes)
      : text_(std::move(text)), separator_(separator), max_record_bytes_(max_record_bytes) {}

  /// Blank lines are none. False at the end. Throws InputFault.
  bool next(TableRecord& record);

  InputText& text() const { return *text_; }

 private:
  enum class State { field_begin, plain, quoted, quote_in_quoted };

  bool take_bytes(TableRecord& record);
  bool take(char byte, TableRecord& record);
  void take_quoted(char byte, TableRecord& record);
  void keep(char byte, TableRecord& record);
  bool has_room(std::size_t num_bytes, TableRecord& record);
  void end_field(TableRecord& record);
  void end_record(TableRecord& record);
  static void add_fault(TableRecord& record, std::string fault);

  std::unique_ptr<InputText> text_;
  char separator_;
  std::size_t max_record_bytes_;
  State state_ = State::field_begin;
  std::string field_;
  std::size_t line_number_ = 1;
  std::size_t quote_line_ = 0;      // on which the quote was opened that is open
  std::size_t num_kept_bytes_ = 0;  // of the record, or that it asked to keep
};

}  // namespace flexgen

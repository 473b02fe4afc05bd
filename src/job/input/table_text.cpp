#include "job/input/table_text.hpp"

#include <fmt/core.h>

#include <utility>

#include "base/bytes.hpp"

namespace flexgen {

bool TableText::next(TableRecord& record) {
  for (;;) {
    record.fields.clear();
    record.fault.clear();
    record.num_bytes = 0;
    record.line_number = line_number_;
    state_ = State::field_begin;
    num_kept_bytes_ = 0;
    while (!take_bytes(record)) {
      if (text_->refill()) continue;
      if (record.num_bytes == 0) return false;
      end_record(record);
      break;
    }
    const bool is_blank = record.fields.size() == 1 && record.fields[0].empty() && record.num_bytes <= 2;
    if (!is_blank || !record.fault.empty()) return true;
  }
}

/// Takes what the buffer holds of the record. True where that ends it.
bool TableText::take_bytes(TableRecord& record) {
  const std::string_view unread = text_->unread();
  for (std::size_t i = 0; i < unread.size(); ++i) {
    if (!take(unread[i], record)) continue;
    record.num_bytes += i + 1;
    text_->skip(i + 1);
    return true;
  }
  record.num_bytes += unread.size();
  text_->skip(unread.size());
  return false;
}

/// True where the byte ends the record.
bool TableText::take(char byte, TableRecord& record) {
  if (byte == '\0' && record.fault.empty()) add_fault(record, fmt::format("line {} has a NUL byte", line_number_));
  if (byte == '\n') ++line_number_;
  if (state_ == State::quoted) {
    take_quoted(byte, record);
    return false;
  }
  if (byte == '\n') {
    end_record(record);
    return true;
  }
  if (byte == separator_) {
    end_field(record);
  } else if (byte == '"' && state_ != State::plain) {
    if (state_ == State::quote_in_quoted) keep(byte, record);  // doubled
    else quote_line_ = line_number_;
    state_ = State::quoted;
  } else if (state_ == State::quote_in_quoted) {
    if (byte != '\r')
      add_fault(record, fmt::format("on line {} text follows a quote that ended its field", line_number_));
  } else {
    state_ = State::plain;
    keep(byte, record);
  }
  return false;
}

void TableText::take_quoted(char byte, TableRecord& record) {
  if (byte == '"') state_ = State::quote_in_quoted;
  else keep(byte, record);
}

void TableText::keep(char byte, TableRecord& record) {
  if (has_room(1, record)) field_ += byte;
}

/// Counts what is kept of a record; what is beyond the limit is read and dropped.
bool TableText::has_room(std::size_t num_bytes, TableRecord& record) {
  num_kept_bytes_ += num_bytes;
  if (num_kept_bytes_ <= max_record_bytes_) return true;
  if (!record.fault.empty()) return false;
  add_fault(record, state_ == State::quoted ? fmt::format("it has more than {}, in a quote that was opened on line {}",
                                                          format_bytes(max_record_bytes_), quote_line_)
                                            : fmt::format("it has more than {}", format_bytes(max_record_bytes_)));
  return false;
}

void TableText::end_field(TableRecord& record) {
  // A field of nothing takes memory, too.
  if (has_room(sizeof(std::string), record)) record.fields.push_back(std::exchange(field_, {}));
  field_.clear();
  state_ = State::field_begin;
}

void TableText::end_record(TableRecord& record) {
  if (state_ == State::quoted)
    add_fault(record, fmt::format("a quote that was opened on line {} never ends", quote_line_));
  if (state_ == State::plain && field_.ends_with('\r')) field_.pop_back();
  end_field(record);
}

void TableText::add_fault(TableRecord& record, std::string fault) {
  if (record.fault.empty()) record.fault = std::move(fault);
}

}  // namespace flexgen

#include "job/input/line_records.hpp"

#include <fmt/core.h>

#include <algorithm>
#include <cstring>

#include "base/bytes.hpp"

namespace flexgen {
namespace {

bool is_blank_line(std::string_view line) { return line.find_first_not_of(" \t\r\v\f") == std::string_view::npos; }

}  // namespace

bool LineRecords::next(Record& record) {
  for (;;) {
    const LineStatus status = read_line();
    if (status == LineStatus::end) return false;
    ++line_number_;
    record = Record{.line_number = line_number_, .num_bytes = line_.size(), .text = line_, .fields = {}, .problem = {}};
    if (status == LineStatus::too_long) {
      record.problem =
          Record::Problem{"line_too_long", fmt::format("line {} is too long: it has more than {}. Split the row",
                                                       line_number_, format_bytes(max_line_bytes_))};
      return true;
    }
    if (record.text.ends_with('\r')) record.text.remove_suffix(1);
    if (!is_blank_line(record.text)) return true;
  }
}

std::optional<RecordSource::Extent> LineRecords::extent() const {
  const std::optional<std::uint64_t> size = text_->file().size();
  return size ? std::optional(Extent{text_->file().num_read(), *size}) : std::nullopt;
}

/// Puts the next line, without its newline, into line_.
LineRecords::LineStatus LineRecords::read_line() {
  line_.clear();
  bool is_too_long = false;
  bool has_bytes = false;
  for (;;) {
    if (text_->unread().empty() && !text_->refill()) {
      if (!has_bytes) return LineStatus::end;
      return is_too_long ? LineStatus::too_long : LineStatus::line;
    }
    has_bytes = true;
    const std::string_view unread = text_->unread();
    const auto* newline = static_cast<const char*>(std::memchr(unread.data(), '\n', unread.size()));
    const std::size_t count = newline ? static_cast<std::size_t>(newline - unread.data()) : unread.size();
    if (line_.size() + count > max_line_bytes_) is_too_long = true;
    line_.append(unread.data(), std::min(count, max_line_bytes_ - line_.size()));
    text_->skip(count + (newline ? 1 : 0));
    if (newline) return is_too_long ? LineStatus::too_long : LineStatus::line;
  }
}

}  // namespace flexgen

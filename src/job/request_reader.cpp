#include <fcntl.h>
#include <fmt/core.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "base/error.hpp"
#include "job/broken_row.hpp"
#include "job/input_kind.hpp"
#include "job/request.hpp"
#include "job/request_fields.hpp"

namespace flexgen {
namespace {

constexpr std::size_t read_bytes = 256 * KiB;
constexpr std::size_t max_unread_fields = 8;
constexpr std::string_view byte_order_mark = "\xEF\xBB\xBF";

bool is_blank_line(std::string_view line) { return line.find_first_not_of(" \t\r\v\f") == std::string_view::npos; }

RowError row_error(std::size_t line_number, std::string id, bool batch_format, std::string code, std::string message) {
  RowError error;
  error.line_number = line_number;
  error.custom_id = std::move(id);
  error.batch_format = batch_format;
  error.code = std::move(code);
  error.message = std::move(message);
  return error;
}

FileDescriptor open_input(const std::string& path, const std::string& display_name) {
  if (path == "-") return FileDescriptor::borrowed(STDIN_FILENO);
  auto file = FileDescriptor::owned(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
  if (!file.is_open())
    throw UserError(ExitCode::file, fmt::format("cannot open the input {}", display_name), errno_text(errno),
                    "Check the path and its permissions, or give \"-\" to read from standard input");
  struct stat status {};
  if (::fstat(file.get(), &status) == 0 && S_ISDIR(status.st_mode))
    throw UserError(ExitCode::file, fmt::format("cannot read the input {}", display_name), "it is a folder",
                    "Give a file with one JSON object per line");
  return file;
}

}  // namespace

RequestReader::RequestReader(std::string path, RequestDefaults defaults, std::size_t max_line_bytes)
    : path_(std::move(path)),
      display_name_(path_ == "-" ? "standard input" : fmt::format("'{}'", path_)),
      defaults_(defaults),
      max_line_bytes_(max_line_bytes),
      file_(open_input(path_, display_name_)),
      buffer_(read_bytes) {
  refuse_wrong_kind();
}

/// Before a row is read: what holds no rows at all is one error, not one for every line.
void RequestReader::refuse_wrong_kind() {
  while (buffer_end_ < buffer_.size() && read_more()) {
  }
  std::string_view head(buffer_.data(), buffer_end_);
  const bool is_whole = buffer_end_ < buffer_.size();
  if (head.starts_with(byte_order_mark)) head.remove_prefix(byte_order_mark.size());
  if (const std::optional<WrongKind> kind = find_wrong_kind(head, is_whole))
    throw UserError(ExitCode::file, fmt::format("cannot read rows from {}", display_name_), kind->what, kind->remedy);
}

std::optional<ParsedRow> RequestReader::next() {
  for (;;) {
    const LineStatus status = read_line();
    if (status == LineStatus::end) return std::nullopt;
    ++line_number_;
    std::optional<ParsedRow> row;
    if (status == LineStatus::too_long) {
      row = too_long_row();
    } else {
      std::string_view line = line_;
      if (line_number_ == 1 && line.starts_with(byte_order_mark)) line.remove_prefix(byte_order_mark.size());
      if (line.ends_with('\r')) line.remove_suffix(1);
      if (is_blank_line(line)) continue;
      row = parse_request(line, line_number_, defaults_);
    }
    settle_custom_id(*row);
    if (const auto* request = std::get_if<Request>(&*row)) count_unread_fields(*request);
    return row;
  }
}

/// Its beginning may still say whose result the error is.
RowError RequestReader::too_long_row() const {
  RowError error = row_error(line_number_, unused_line_id(line_number_), false, "line_too_long",
                             fmt::format("line {} is too long: it has more than {}. Split the row", line_number_,
                                         format_bytes(max_line_bytes_)));
  identify_broken_row(line_, error);
  return error;
}

/// Puts the next line, without its newline, into line_. What passes the limit is read and dropped.
RequestReader::LineStatus RequestReader::read_line() {
  line_.clear();
  bool is_too_long = false;
  bool has_bytes = false;
  for (;;) {
    if (buffer_begin_ == buffer_end_ && !refill()) {
      if (!has_bytes) return LineStatus::end;
      return is_too_long ? LineStatus::too_long : LineStatus::line;
    }
    has_bytes = true;
    const char* begin = buffer_.data() + buffer_begin_;
    const std::size_t available = buffer_end_ - buffer_begin_;
    const auto* newline = static_cast<const char*>(std::memchr(begin, '\n', available));
    const std::size_t count = newline ? static_cast<std::size_t>(newline - begin) : available;
    if (line_.size() + count > max_line_bytes_) is_too_long = true;
    line_.append(begin, std::min(count, max_line_bytes_ - line_.size()));
    buffer_begin_ += count + (newline ? 1 : 0);
    if (newline) return is_too_long ? LineStatus::too_long : LineStatus::line;
  }
}

/// False at the end of the file.
bool RequestReader::refill() {
  buffer_begin_ = buffer_end_ = 0;
  return read_more();
}

/// Reads behind what the buffer holds. False at the end of the file.
bool RequestReader::read_more() {
  if (is_at_end_) return false;
  ssize_t count = 0;
  do {
    count = ::read(file_.get(), buffer_.data() + buffer_end_, buffer_.size() - buffer_end_);
  } while (count < 0 && errno == EINTR);
  if (count < 0)
    throw UserError(ExitCode::file, fmt::format("cannot read the input {} behind line {}", display_name_, line_number_),
                    errno_text(errno), "Check the file and the disk or pipe that it comes from");
  buffer_end_ += static_cast<std::size_t>(count);
  is_at_end_ = count == 0;
  return !is_at_end_;
}

/// Records the row's id; a second use of one turns the row into an error under an id of its own.
void RequestReader::settle_custom_id(ParsedRow& row) {
  RowIdentity& identity = std::visit([](auto& one) -> RowIdentity& { return one; }, row);
  if (const auto [first, is_new] = first_line_of_id_.emplace(identity.custom_id, line_number_); !is_new) {
    std::string own_id = unused_line_id(line_number_);
    // A made-up id that the user happens to use is replaced by another; a user's own id that comes twice is wrong.
    if (!identity.names_itself) {
      identity.custom_id = own_id;
    } else {
      row = row_error(line_number_, own_id, identity.batch_format, "duplicate_custom_id",
                      fmt::format("custom_id '{}' of line {} was already used on line {}: two results could not be "
                                  "told apart. Give every row its own id",
                                  shorten(identity.custom_id, 200), line_number_, first->second));
    }
    first_line_of_id_.emplace(std::move(own_id), line_number_);
  }
}

void RequestReader::count_unread_fields(const Request& request) {
  for (const std::string& name : request.unread_fields) {
    const auto known = std::ranges::find(unread_fields_, name, &UnreadField::name);
    if (known != unread_fields_.end()) ++known->num_rows;
    else if (unread_fields_.size() < max_unread_fields) unread_fields_.push_back({name, request.line_number, 1});
  }
}

std::string RequestReader::describe_unread_fields() const {
  if (unread_fields_.empty()) return {};
  std::string text = "nothing reads these fields of rows:";
  for (const UnreadField& field : unread_fields_)
    text += fmt::format("{} {} ({} row{}, first in line {})", &field == &unread_fields_.front() ? "" : ",",
                        nlohmann::json(shorten(field.name, 60)).dump(), field.num_rows, field.num_rows == 1 ? "" : "s",
                        field.first_line);
  return text + (unread_fields_.size() == max_unread_fields ? ", and perhaps more" : "");
}

/// "line-17", or "line-17-2", ... where rows above already use that.
std::string RequestReader::unused_line_id(std::size_t line_number) const {
  std::string id = fmt::format("line-{}", line_number);
  for (int attempt = 2; first_line_of_id_.contains(id); ++attempt) id = fmt::format("line-{}-{}", line_number, attempt);
  return id;
}

}  // namespace flexgen

#include "job/request_reader.hpp"

#include <fmt/core.h>

#include <algorithm>
#include <filesystem>
#include <utility>

#include "base/error.hpp"
#include "job/broken_row.hpp"
#include "job/input/input_file.hpp"
#include "job/input/kept_fields.hpp"
#include "job/input/record_source.hpp"
#include "job/request_fields.hpp"

namespace flexgen {
namespace {

constexpr std::size_t max_unread_fields = 8;

/// A pipe can be opened once, and waits for who writes to it.
bool can_be_opened_twice(const std::string& path) {
  std::error_code ignored;
  const std::filesystem::file_status status = std::filesystem::status(path, ignored);
  return path != "-" && (!std::filesystem::exists(status) || std::filesystem::is_regular_file(status) ||
                         std::filesystem::is_directory(status));
}

}  // namespace

RequestReader::RequestReader(InputFiles inputs, RequestDefaults defaults, std::size_t max_line_bytes)
    : defaults_(std::move(defaults)), max_line_bytes_(max_line_bytes), format_(inputs.format) {
  FLEXGEN_CHECK(!inputs.paths.empty(), "rows are read of no input");
  for (std::string& path : inputs.paths) inputs_.push_back({std::move(path)});
  for (current_ = inputs_.size(); current_-- > 0;) {  // the first is left open
    records_.reset();
    if (current_ > 0 && !can_be_opened_twice(inputs_[current_].path)) inputs_[current_].size.reset();
    else open_current();
  }
  current_ = 0;
}

RequestReader::~RequestReader() = default;

void RequestReader::open_current() {
  Input& input = inputs_[current_];
  std::unique_ptr<RecordSource> records;
  try {
    records = open_records(input.path, format_, max_line_bytes_);
  } catch (const InputFault& fault) {
    fail(fault);
  }
  const std::optional<RecordSource::Extent> extent = records->extent();
  const std::lock_guard lock(records_mutex_);
  input.size = extent ? std::optional(extent->size) : std::nullopt;
  records_ = std::move(records);
  if (is_interrupted_) records_->interrupt();
}

std::optional<ParsedRow> RequestReader::next() {
  Record record;
  if (!next_record(record)) return std::nullopt;
  line_number_ = record.line_number;
  row_bytes_ = record.num_bytes;
  ParsedRow row = parse(record);
  settle_custom_id(row);
  ++num_rows_;
  if (const auto* request = std::get_if<Request>(&row)) {
    count_unread_fields(*request);
  } else if (inputs_.size() > 1) {
    auto& error = std::get<RowError>(row);
    error.message = fmt::format("{}, line {}: {}", display_name(inputs_[current_].path), line_number_, error.message);
  }
  return row;
}

/// False at the end of the last input.
bool RequestReader::next_record(Record& record) {
  try {
    while (records_) {
      const bool is_there = records_->next(record);
      if (const auto extent = records_->extent()) num_read_ = bytes_before_ + extent->num_read;
      if (is_there) return true;
      bytes_before_ = num_read_;
      const std::uint64_t first_place = inputs_[current_].first_place + line_number_;
      if (current_ + 1 == inputs_.size()) {
        const std::lock_guard lock(records_mutex_);
        records_.reset();
        break;
      }
      line_number_ = 0;
      inputs_[++current_].first_place = first_place;
      open_current();
    }
  } catch (const InputFault& fault) {
    fail(fault);
  }
  return false;
}

void RequestReader::fail(const InputFault& fault) const {
  const std::string name = display_name(inputs_[current_].path);
  throw UserError(ExitCode::file,
                  line_number_ == 0 ? fmt::format("cannot read the input {}", name)
                                    : fmt::format("cannot read the input {} behind line {}", name, line_number_),
                  fault.what(), fault.remedy);
}

ParsedRow RequestReader::parse(const Record& record) const {
  RowIdentity row;
  row.line_number = record.line_number;
  row.custom_id = line_id();
  row.ordinal = num_rows_;
  if (!record.problem) {
    if (!record.fields) return parse_request(record.text, std::move(row), defaults_);
    const nlohmann::json* body = find_set(*record.fields, "body");
    row.batch_format = body && body->is_object();
    return read_request(*record.fields, std::move(row), defaults_);
  }
  // What there is of it may still say whose result the error is.
  if (record.fields && defaults_.kept_fields) row.kept_fields = defaults_.kept_fields->of(*record.fields, false);
  if (!record.fields) {
    identify_broken_row(record.text, row);
  } else if (const nlohmann::json* id = find_set(*record.fields, "custom_id"); id && id->is_string()) {
    row.custom_id = id->get<std::string>();
    row.names_itself = true;
  }
  return RowError{std::move(row), record.problem->code, record.problem->message};
}

std::optional<double> RequestReader::share_read() const {
  const std::lock_guard lock(records_mutex_);
  std::uint64_t size = 0;
  for (const Input& input : inputs_) {
    if (!input.size) return std::nullopt;
    size += *input.size;
  }
  return size == 0 ? 1.0 : static_cast<double>(num_read_) / static_cast<double>(size);
}

void RequestReader::interrupt() {
  const std::lock_guard lock(records_mutex_);
  is_interrupted_ = true;
  if (records_) records_->interrupt();
}

/// Records the row's id; a second use of one turns the row into an error under an id of its own.
void RequestReader::settle_custom_id(ParsedRow& row) {
  RowIdentity& identity = std::visit([](auto& one) -> RowIdentity& { return one; }, row);
  const std::uint64_t place = inputs_[current_].first_place + line_number_;
  const std::optional<std::uint64_t> first = ids_.add(identity.custom_id, place);
  if (!first) return;
  std::string own_id = unused_line_id();
  ids_.add(own_id, place);
  // A made-up id that the user happens to use is replaced by another; a user's own id that comes twice is wrong.
  if (!identity.names_itself) {
    identity.custom_id = std::move(own_id);
    return;
  }
  std::string message = fmt::format(
      "custom_id '{}' of {} was already used on {}: two results could not be told apart. Give every row its own id",
      shorten(identity.custom_id, 200), describe_place(place), describe_place(*first));
  RowIdentity own = identity;
  own.custom_id = std::move(own_id);
  own.names_itself = false;
  row = RowError{std::move(own), "duplicate_custom_id", std::move(message)};
}

void RequestReader::count_unread_fields(const Request& request) {
  for (const std::string& name : request.unread_fields) {
    const auto known = std::ranges::find(unread_fields_, name, &UnreadField::name);
    if (known != unread_fields_.end()) ++known->num_rows;
    else if (unread_fields_.size() < max_unread_fields)
      unread_fields_.push_back({name, inputs_[current_].first_place + line_number_, 1});
  }
}

std::string RequestReader::describe_unread_fields() const {
  if (unread_fields_.empty()) return {};
  std::string text = "nothing reads these fields of rows:";
  for (const UnreadField& field : unread_fields_)
    text += fmt::format("{} {} ({} row{}, first in {})", &field == &unread_fields_.front() ? "" : ",",
                        nlohmann::json(shorten(field.name, 60)).dump(), field.num_rows, field.num_rows == 1 ? "" : "s",
                        describe_place(field.first_place));
  return text + (unread_fields_.size() == max_unread_fields ? ", and perhaps more" : "");
}

/// "line-17"; of the second input "input-2-line-17".
std::string RequestReader::line_id() const {
  return current_ == 0 ? fmt::format("line-{}", line_number_)
                       : fmt::format("input-{}-line-{}", current_ + 1, line_number_);
}

/// The row's made-up id, with "-2", ... behind it where rows above already use that.
std::string RequestReader::unused_line_id() const {
  std::string id = line_id();
  for (int attempt = 2; ids_.contains(id); ++attempt) id = fmt::format("{}-{}", line_id(), attempt);
  return id;
}

std::string RequestReader::describe_place(std::uint64_t place) const {
  std::size_t input = current_;
  while (input > 0 && inputs_[input].first_place >= place) --input;
  const std::string line = fmt::format("line {}", place - inputs_[input].first_place);
  return inputs_.size() == 1 ? line : fmt::format("{} of {}", line, display_name(inputs_[input].path));
}

}  // namespace flexgen

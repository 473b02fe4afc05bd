#include "job/input/parquet_records.hpp"

#include <arrow/api.h>
#include <arrow/io/file.h>
#include <fmt/core.h>
#include <parquet/arrow/reader.h>
#include <parquet/file_reader.h>
#include <parquet/metadata.h>

#include <algorithm>
#include <cmath>
#include <set>
#include <utility>

#include "base/bytes.hpp"
#include "base/error.hpp"
#include "job/input/arrow_values.hpp"
#include "job/input/input_file.hpp"
#include "job/request_fields.hpp"

namespace flexgen {
namespace {

using Json = nlohmann::json;

constexpr std::int64_t batch_rows = 64;  // held in memory at once, unpacked: texts may be long
constexpr std::int64_t stream_bytes = MiB;

template <class Value>
Value value_or_throw(arrow::Result<Value> result) {
  if (!result.ok()) throw std::runtime_error(result.status().message());
  return *std::move(result);
}

[[noreturn]] void refuse(const std::string& path, std::string_view why, std::string_view remedy) {
  throw UserError(ExitCode::file, fmt::format("cannot read rows from {}", display_name(path)), why, remedy);
}

/// A little of the file at a time, by the thread that asks for it.
std::unique_ptr<parquet::arrow::FileReader> open_reader(const std::string& path) {
  arrow::MemoryPool* pool = arrow::default_memory_pool();
  parquet::ReaderProperties properties(pool);
  properties.enable_buffered_stream();
  properties.set_buffer_size(stream_bytes);
  properties.set_page_checksum_verification(true);
  parquet::ArrowReaderProperties arrow_properties(/*use_threads=*/false);
  arrow_properties.set_pre_buffer(false);
  arrow_properties.set_batch_size(batch_rows);
  auto file = value_or_throw(arrow::io::ReadableFile::Open(path, pool));
  return value_or_throw(parquet::arrow::FileReader::Make(
      pool, parquet::ParquetFileReader::Open(std::move(file), properties), arrow_properties));
}

/// Of a column that requests read: a table program makes floats of integers with gaps between them, and an id may be a
/// number to it.
Json as_requests_have_it(const std::string& name, Json value) {
  constexpr double largest_whole = 9007199254740992.0;  // 2^53
  const bool is_wanted = value.is_number() && is_request_field(name);
  if (is_wanted && value.is_number_float()) {
    const auto number = value.get<double>();
    if (std::trunc(number) == number && std::abs(number) <= largest_whole)
      value = number < 0 ? Json(static_cast<std::int64_t>(number)) : Json(static_cast<std::uint64_t>(number));
  }
  return value;
}

std::size_t size_of(const Json& value) {
  if (value.is_string()) return value.get_ref<const std::string&>().size();
  std::size_t size_bytes = sizeof(value);
  if (value.is_structured())
    for (const Json& one : value) size_bytes += size_of(one);
  return size_bytes;
}

class ParquetRecords final : public RecordSource {
 public:
  /// Throws UserError (file); what Arrow throws.
  ParquetRecords(const std::string& path, std::uint64_t size_bytes, std::size_t max_record_bytes)
      : size_bytes_(size_bytes), max_record_bytes_(max_record_bytes), reader_(open_reader(path)) {
    metadata_ = reader_->parquet_reader()->metadata();
    std::shared_ptr<arrow::Schema> schema;
    if (const arrow::Status status = reader_->GetSchema(&schema); !status.ok())
      throw std::runtime_error(status.message());
    std::set<std::string> seen;
    for (const std::string& name : schema->field_names())
      if (!seen.insert(name).second)
        refuse(path, fmt::format("two of its columns are called '{}'", shorten(name, 60)), "Rename one of them");
    if (seen.empty()) refuse(path, "it has no columns", "Its columns must be the fields of rows, as \"prompt\"");
  }

  bool next(Record& record) override {
    while (row_ == num_group_rows_) {
      if (group_ + 1 == metadata_->num_row_groups()) return false;
      open_group();
    }
    record = Record{};
    record.line_number = ++num_given_;
    ++row_;
    if (fault_.empty()) read_batch();
    if (fault_.empty()) read_row(record);
    if (!fault_.empty())
      record.problem = Record::Problem{
          "unreadable_row", fmt::format("row {} cannot be read: row group {} of the file is damaged ({}). Fetch or "
                                        "write the file again",
                                        record.line_number, group_ + 1, shorten(fault_, 200))};
    return true;
  }

  /// As if every row took as many bytes.
  std::optional<Extent> extent() const override {
    const auto all = static_cast<double>(metadata_->num_rows());
    const double share = all > 0 ? std::min(static_cast<double>(num_given_) / all, 1.0) : 1.0;
    return Extent{static_cast<std::uint64_t>(share * static_cast<double>(size_bytes_)), size_bytes_};
  }

  void interrupt() override {}  // a file does not wait

 private:
  /// What goes wrong from here on costs the rows of this group alone.
  void open_group() {
    ++group_;
    row_ = 0;
    fault_.clear();
    batch_.reset();
    guarded([&] {
      num_group_rows_ = metadata_->RowGroup(group_)->num_rows();
      batches_ = value_or_throw(reader_->GetRecordBatchReader({group_}));
    });
  }

  /// The row that is wanted stands in batch_ then, where batch_row_ says.
  void read_batch() {
    if (batch_ && ++batch_row_ < batch_->num_rows()) return;
    guarded([&] {
      batch_row_ = 0;
      batch_ = value_or_throw(batches_->Next());
      if (!batch_ || batch_->num_rows() == 0) throw std::runtime_error("it has fewer rows than it says");
      if (const arrow::Status status = batch_->Validate(); !status.ok()) throw std::runtime_error(status.message());
    });
  }

  void read_row(Record& record) {
    record.fields = Json::object();
    for (int i = 0; i < batch_->num_columns(); ++i) {
      const std::string& name = batch_->column_name(i);
      try {
        Json value = as_requests_have_it(name, column_value(*batch_->column(i), batch_row_));
        if (name == "custom_id" && value.is_number_integer()) value = value.dump();
        record.num_bytes += size_of(value);
        (*record.fields)[name] = std::move(value);
      } catch (const NoUtf8&) {
        record.problem = Record::Problem{
            "invalid_table_row", fmt::format("row {} is not usable: its field '{}' is no UTF-8. Correct the row",
                                             record.line_number, shorten(name, 60))};
      }
    }
    if (record.num_bytes <= max_record_bytes_) return;
    const Json id = record.fields->value("custom_id", Json());
    record.fields = Json{{"custom_id", id}};
    record.problem = Record::Problem{"line_too_long", fmt::format("row {} is too long: it has more than {}. Split it",
                                                                  record.line_number, format_bytes(max_record_bytes_))};
  }

  template <class Action>
  void guarded(Action action) {
    try {
      action();
    } catch (const std::exception& error) {  // Parquet's own, or of memory that a damaged length asks for
      fault_ = *error.what() == '\0' ? "unknown" : error.what();
    }
  }

  std::uint64_t size_bytes_;
  std::size_t max_record_bytes_;
  std::unique_ptr<parquet::arrow::FileReader> reader_;
  std::shared_ptr<parquet::FileMetaData> metadata_;
  int group_ = -1;
  std::int64_t num_group_rows_ = 0, row_ = 0;  // of the group; those that were given
  std::unique_ptr<arrow::RecordBatchReader> batches_;
  std::shared_ptr<arrow::RecordBatch> batch_;
  std::int64_t batch_row_ = 0;
  std::string fault_;  // of the group; empty: none
  std::uint64_t num_given_ = 0;
};

}  // namespace

std::unique_ptr<RecordSource> open_parquet(const std::string& path, std::size_t max_record_bytes) {
  const InputFile file(path);
  if (path == "-" || !file.size())
    refuse(path, "of a Parquet file the end is read first, which needs a regular file", "Give the path of one");
  try {
    return std::make_unique<ParquetRecords>(path, *file.size(), max_record_bytes);
  } catch (const UserError&) {
    throw;
  } catch (const std::exception& error) {
    throw InputFault(fmt::format("its Parquet data cannot be read ({})", shorten(error.what(), 300)),
                     "Fetch or write the file again; one that is packed or encrypted must be unpacked first");
  }
}

}  // namespace flexgen

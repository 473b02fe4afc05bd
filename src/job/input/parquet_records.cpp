#include "job/input/parquet_records.hpp"

#include <arrow/api.h>
#include <arrow/io/file.h>
#include <fmt/core.h>
#include <parquet/arrow/reader.h>

#include <atomic>
#include <utility>

#include "base/error.hpp"

namespace flexgen {
namespace {

using Json = nlohmann::json;

constexpr std::int64_t batch_rows = 4096;

[[noreturn]] void fail(const arrow::Status& status) {
  throw InputFault(fmt::format("its Parquet data cannot be read ({})", status.ToString()),
                   "Fetch or write the file again");
}

/// Numbers, truth values and texts as what they are; anything else as Arrow's own text.
Json value_of(const arrow::Array& column, std::int64_t row) {
  const arrow::Result<std::shared_ptr<arrow::Scalar>> scalar = column.GetScalar(row);
  if (!scalar.ok()) fail(scalar.status());
  const arrow::Scalar& value = **scalar;
  if (!value.is_valid) return nullptr;
  const arrow::Type::type type = value.type->id();
  if (arrow::is_base_binary_like(type) || !arrow::is_primitive(type)) return value.ToString();
  Json parsed = Json::parse(value.ToString(), nullptr, false);
  return parsed.is_discarded() ? Json(value.ToString()) : parsed;
}

class ParquetRecords final : public RecordSource {
 public:
  explicit ParquetRecords(const std::string& path) {
    auto file = arrow::io::ReadableFile::Open(path);
    if (!file.ok()) fail(file.status());
    auto reader = parquet::arrow::OpenFile(*file, arrow::default_memory_pool());
    if (!reader.ok()) fail(reader.status());
    reader_ = *std::move(reader);
    reader_->set_batch_size(batch_rows);
    num_rows_ = static_cast<std::uint64_t>(reader_->parquet_reader()->metadata()->num_rows());
    auto batches = reader_->GetRecordBatchReader();
    if (!batches.ok()) fail(batches.status());
    batches_ = *std::move(batches);
  }

  bool next(Record& record) override {
    while (!batch_ || row_ == batch_->num_rows()) {
      row_ = 0;
      if (const arrow::Status status = batches_->ReadNext(&batch_); !status.ok()) fail(status);
      if (!batch_) return false;
    }
    record = Record{};
    record.line_number = ++num_given_;
    record.fields = Json::object();
    for (int i = 0; i < batch_->num_columns(); ++i) {
      Json value = value_of(*batch_->column(i), row_);
      record.num_bytes += value.is_string() ? value.get_ref<const std::string&>().size() : sizeof(value);
      if (!value.is_null()) (*record.fields)[batch_->column_name(i)] = std::move(value);
    }
    ++row_;
    return true;
  }

  /// Rows stand for bytes.
  std::optional<Extent> extent() const override { return Extent{num_given_, num_rows_}; }
  void interrupt() override {}  // a file does not wait

 private:
  std::unique_ptr<parquet::arrow::FileReader> reader_;
  std::shared_ptr<arrow::RecordBatchReader> batches_;
  std::shared_ptr<arrow::RecordBatch> batch_;
  std::int64_t row_ = 0;  // of the batch, next
  std::uint64_t num_given_ = 0, num_rows_ = 0;
};

}  // namespace

std::unique_ptr<RecordSource> open_parquet(const std::string& path) { return std::make_unique<ParquetRecords>(path); }

}  // namespace flexgen

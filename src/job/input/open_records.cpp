// Which reader an input wants (record_source.hpp).
#include <fmt/core.h>

#include "base/error.hpp"
#include "job/input/line_records.hpp"
#include "job/input/parquet_records.hpp"
#include "job/input/record_source.hpp"
#include "job/input/table_records.hpp"
#include "job/input_kind.hpp"

namespace flexgen {
namespace {

constexpr std::string_view parquet_mark = "PAR1";

void refuse(const std::string& path, const std::optional<WrongKind>& kind) {
  if (kind)
    throw UserError(ExitCode::file, fmt::format("cannot read rows from {}", display_name(path)), kind->what,
                    kind->remedy);
}

}  // namespace

std::unique_ptr<RecordSource> open_records(const std::string& path, InputFormat format, std::size_t max_record_bytes) {
  const InputFormat form = format_of(format, path);
  if (form == InputFormat::parquet) return open_parquet(path, max_record_bytes);
  auto text = std::make_unique<InputText>(path);
  if (format == InputFormat::automatic && path != "-" && text->head().starts_with(parquet_mark))
    return open_parquet(path, max_record_bytes);
  if (form == InputFormat::jsonl) {
    refuse(path, find_wrong_kind(text->head(), text->head_is_whole()));
    return std::make_unique<LineRecords>(std::move(text), max_record_bytes);
  }
  refuse(path, find_foreign_kind(text->head()));
  return std::make_unique<TableRecords>(path, std::move(text), form == InputFormat::tsv ? '\t' : ',', max_record_bytes);
}

}  // namespace flexgen

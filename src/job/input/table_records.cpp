#include "job/input/table_records.hpp"

#include <fmt/core.h>

#include <algorithm>
#include <array>
#include <set>
#include <utility>

#include "base/error.hpp"
#include "job/request_fields.hpp"
#include "job/utf8.hpp"

namespace flexgen {
namespace {

using Json = nlohmann::json;

constexpr std::array<std::string_view, 6> text_fields{"prompt", "text", "custom_id", "model", "user", "suffix"};

char separator_of(char asked_for, std::string_view head) {
  const std::string_view first = head.substr(0, head.find('\n'));
  const bool has_semicolons = first.find(';') != std::string_view::npos && first.find(',') == std::string_view::npos;
  return asked_for == ',' && has_semicolons ? ';' : asked_for;
}

[[noreturn]] void refuse_table(const std::string& path, const std::string& why) {
  throw UserError(ExitCode::file, fmt::format("cannot read rows from {}", display_name(path)), why,
                  "Its first line must name its columns, each once, as in \"custom_id,prompt\"");
}

/// As programs write it: "True" and "FALSE", too.
Json read_json(const std::string& text) {
  std::string lower = text;
  std::ranges::transform(lower, lower.begin(), [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
  if (lower == "true" || lower == "false") return lower == "true";
  Json value = Json::parse(text, nullptr, false);
  return value.is_discarded() ? Json(text) : value;
}

}  // namespace

TableRecords::TableRecords(const std::string& path, std::unique_ptr<InputText> text, char separator,
                           std::size_t max_record_bytes)
    : separator_(separator_of(separator, text->head())), table_(std::move(text), separator_, max_record_bytes) {
  read_columns(path);
}

void TableRecords::read_columns(const std::string& path) {
  if (!table_.next(record_)) return;  // an empty file has no rows
  if (!record_.fault.empty()) refuse_table(path, record_.fault);
  std::set<std::string> seen;
  for (std::string& name : record_.fields) {
    if (!is_utf8(name)) refuse_table(path, "the name of a column is no UTF-8");
    if (!seen.insert(name).second)
      refuse_table(path, fmt::format("two of its columns are called '{}'", shorten(name, 60)));
    const bool is_text = std::ranges::find(text_fields, name) != text_fields.end();
    const auto kind = is_text                  ? Column::Kind::text
                      : is_request_field(name) ? Column::Kind::json
                                               : Column::Kind::own_text;
    columns_.push_back({std::move(name), kind});
  }
}

bool TableRecords::next(Record& record) {
  if (!table_.next(record_)) return false;
  record = Record{.line_number = record_.line_number,
                  .num_bytes = record_.num_bytes,
                  .text = {},
                  .fields = Json::object(),
                  .problem = {}};
  std::string fault = record_.fault;
  if (fault.empty() && record_.fields.size() != columns_.size())
    fault = fmt::format("it has {} fields, the table {} columns", record_.fields.size(), columns_.size());
  for (std::size_t i = 0; i < std::min(columns_.size(), record_.fields.size()); ++i) {
    if (!is_utf8(record_.fields[i])) {
      if (fault.empty()) fault = fmt::format("its field '{}' is no UTF-8", shorten(columns_[i].name, 60));
      continue;
    }
    Json value = read_field(columns_[i], std::move(record_.fields[i]));
    if (!value.is_null()) (*record.fields)[columns_[i].name] = std::move(value);
  }
  if (!fault.empty())
    record.problem = Record::Problem{
        "invalid_table_row",
        fmt::format("the row of line {} is not usable: {}. Correct the row", record.line_number, fault)};
  return true;
}

nlohmann::json TableRecords::read_field(const Column& column, std::string text) const {
  // An empty prompt is one; an empty id, model, ... is none.
  if (column.kind == Column::Kind::own_text || column.name == "prompt" || column.name == "text") return text;
  if (text.empty()) return nullptr;
  if (column.kind == Column::Kind::text) return text;
  if (column.name == "stop" && !text.starts_with('[')) return text;
  return read_json(text);
}

std::optional<RecordSource::Extent> TableRecords::extent() const {
  const std::optional<std::uint64_t> size = table_.text().file().size();
  return size ? std::optional(Extent{table_.text().file().num_read(), *size}) : std::nullopt;
}

}  // namespace flexgen

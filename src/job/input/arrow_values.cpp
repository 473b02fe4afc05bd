#include "job/input/arrow_values.hpp"

#include <arrow/api.h>
#include <arrow/util/float16.h>
#include <fmt/core.h>

#include <charconv>
#include <chrono>
#include <cmath>
#include <stdexcept>
#include <string>
#include <string_view>

#include "job/utf8.hpp"

namespace flexgen {
namespace {

using arrow::Type;
using Json = nlohmann::json;
using std::chrono::nanoseconds;

template <class ArrowArray>
const ArrowArray& as(const arrow::Array& column) {
  return static_cast<const ArrowArray&>(column);  // whose type id has told so
}

/// As a parser has it: what is not negative is unsigned.
Json integer_of(std::int64_t value) { return value < 0 ? Json(value) : Json(static_cast<std::uint64_t>(value)); }

Json number_of(double value) { return std::isfinite(value) ? Json(value) : Json(); }

/// 0.1F is 0.1, not 0.10000000149011612.
Json number_of(float value) {
  if (!std::isfinite(value)) return nullptr;
  char text[32];
  const auto end = std::to_chars(std::begin(text), std::end(text), value).ptr;
  double number = 0;
  std::from_chars(std::begin(text), end, number);
  return number;
}

Json text_of(std::string_view bytes) {
  if (!is_utf8(bytes)) throw NoUtf8{};
  return bytes;
}

Json arrow_text(const arrow::Array& column, std::int64_t row) {
  const auto scalar = column.GetScalar(row);
  if (!scalar.ok()) throw std::runtime_error(scalar.status().ToString());
  return text_of((*scalar)->ToString());
}

nanoseconds::rep nanoseconds_in(arrow::TimeUnit::type unit) {
  switch (unit) {
    case arrow::TimeUnit::SECOND: return 1'000'000'000;
    case arrow::TimeUnit::MILLI: return 1'000'000;
    case arrow::TimeUnit::MICRO: return 1'000;
    case arrow::TimeUnit::NANO: return 1;
  }
  return 1;
}

std::string date_text(std::int64_t days) {
  const std::chrono::year_month_day date{std::chrono::sys_days{std::chrono::days{days}}};
  return fmt::format("{:04}-{:02}-{:02}", static_cast<int>(date.year()), static_cast<unsigned>(date.month()),
                     static_cast<unsigned>(date.day()));
}

/// Of a day. Thousandths, millionths, ... as far as there are any.
std::string time_text(std::int64_t of_day, arrow::TimeUnit::type unit) {
  const std::int64_t per_second = 1'000'000'000 / nanoseconds_in(unit);
  const std::int64_t seconds = of_day / per_second;
  std::string text = fmt::format("{:02}:{:02}:{:02}", seconds / 3600, seconds / 60 % 60, seconds % 60);
  const std::int64_t rest = of_day % per_second * nanoseconds_in(unit);
  if (rest == 0) return text;
  if (rest % 1'000'000 == 0) return text + fmt::format(".{:03}", rest / 1'000'000);
  if (rest % 1'000 == 0) return text + fmt::format(".{:06}", rest / 1'000);
  return text + fmt::format(".{:09}", rest);
}

bool is_calendar_day(std::int64_t days) { return days >= -719'528 && days < 2'932'897; }  // years 0 .. 9999

Json timestamp_of(const arrow::TimestampArray& column, std::int64_t row) {
  const auto& type = static_cast<const arrow::TimestampType&>(*column.type());
  const std::int64_t per_day = 86'400 * (1'000'000'000 / nanoseconds_in(type.unit()));
  const std::int64_t value = column.Value(row);
  const std::int64_t days = value / per_day - (value % per_day < 0 ? 1 : 0);
  if (!is_calendar_day(days)) return arrow_text(column, row);
  return date_text(days) + "T" + time_text(value - days * per_day, type.unit()) + (type.timezone().empty() ? "" : "Z");
}

template <class TimeArray>
Json time_of(const TimeArray& column, std::int64_t row) {
  return time_text(column.Value(row), static_cast<const typename TimeArray::TypeClass&>(*column.type()).unit());
}

Json date_of(const arrow::Array& column, std::int64_t row, std::int64_t days) {
  return is_calendar_day(days) ? Json(date_text(days)) : arrow_text(column, row);
}

Json elements_of(const arrow::Array& values, std::int64_t begin, std::int64_t count) {
  Json list = Json::array();
  for (std::int64_t i = begin; i < begin + count; ++i) list.push_back(column_value(values, i));
  return list;
}

template <class ListArray>
Json list_of(const arrow::Array& column, std::int64_t row) {
  const auto& lists = as<ListArray>(column);
  return elements_of(*lists.values(), lists.value_offset(row), lists.value_length(row));
}

Json struct_of(const arrow::StructArray& column, std::int64_t row) {
  Json object = Json::object();
  for (int i = 0; i < column.num_fields(); ++i)
    object[column.struct_type()->field(i)->name()] = column_value(*column.field(i), row);
  return object;
}

Json map_of(const arrow::MapArray& column, std::int64_t row) {
  const std::int64_t begin = column.value_offset(row), count = column.value_length(row);
  const Json keys = elements_of(*column.keys(), begin, count);
  Json object = Json::object(), pairs = Json::array();
  for (std::int64_t i = 0; i < count; ++i) {
    const Json& key = keys[static_cast<std::size_t>(i)];
    Json value = column_value(*column.items(), begin + i);
    pairs.push_back(Json::array({key, value}));
    if (key.is_string()) object[key.get<std::string>()] = std::move(value);
  }
  return object.size() == keys.size() ? object : pairs;
}

Json extension_of(const arrow::ExtensionArray& column, std::int64_t row) {
  if (column.extension_type()->extension_name() != "arrow.uuid") return column_value(*column.storage(), row);
  std::string text;
  for (const char byte : as<arrow::FixedSizeBinaryArray>(*column.storage()).GetView(row)) {
    if (text.size() == 8 || text.size() == 13 || text.size() == 18 || text.size() == 23) text += '-';
    text += fmt::format("{:02x}", static_cast<unsigned char>(byte));
  }
  return text;
}

Json nested_of(const arrow::Array& column, std::int64_t row) {
  switch (column.type_id()) {
    case Type::DICTIONARY: {
      const auto& values = as<arrow::DictionaryArray>(column);
      return column_value(*values.dictionary(), values.GetValueIndex(row));
    }
    case Type::LIST: return list_of<arrow::ListArray>(column, row);
    case Type::LARGE_LIST: return list_of<arrow::LargeListArray>(column, row);
    case Type::FIXED_SIZE_LIST: return list_of<arrow::FixedSizeListArray>(column, row);
    case Type::STRUCT: return struct_of(as<arrow::StructArray>(column), row);
    case Type::MAP: return map_of(as<arrow::MapArray>(column), row);
    case Type::EXTENSION: return extension_of(as<arrow::ExtensionArray>(column), row);
    default: return arrow_text(column, row);
  }
}

Json text_or_time_of(const arrow::Array& column, std::int64_t row) {
  constexpr std::int64_t milliseconds_a_day = 86'400'000;
  switch (column.type_id()) {
    case Type::STRING:
    case Type::BINARY: return text_of(as<arrow::BinaryArray>(column).GetView(row));
    case Type::LARGE_STRING:
    case Type::LARGE_BINARY: return text_of(as<arrow::LargeBinaryArray>(column).GetView(row));
    case Type::STRING_VIEW:
    case Type::BINARY_VIEW: return text_of(as<arrow::BinaryViewArray>(column).GetView(row));
    case Type::FIXED_SIZE_BINARY: return text_of(as<arrow::FixedSizeBinaryArray>(column).GetView(row));
    case Type::DATE32: return date_of(column, row, as<arrow::Date32Array>(column).Value(row));
    case Type::DATE64: return date_of(column, row, as<arrow::Date64Array>(column).Value(row) / milliseconds_a_day);
    case Type::TIME32: return time_of(as<arrow::Time32Array>(column), row);
    case Type::TIME64: return time_of(as<arrow::Time64Array>(column), row);
    case Type::TIMESTAMP: return timestamp_of(as<arrow::TimestampArray>(column), row);
    default: return nested_of(column, row);
  }
}

}  // namespace

Json column_value(const arrow::Array& column, std::int64_t row) {
  if (column.IsNull(row)) return nullptr;
  switch (column.type_id()) {
    case Type::NA: return nullptr;
    case Type::BOOL: return as<arrow::BooleanArray>(column).Value(row);
    case Type::INT8: return integer_of(as<arrow::Int8Array>(column).Value(row));
    case Type::INT16: return integer_of(as<arrow::Int16Array>(column).Value(row));
    case Type::INT32: return integer_of(as<arrow::Int32Array>(column).Value(row));
    case Type::INT64: return integer_of(as<arrow::Int64Array>(column).Value(row));
    case Type::UINT8: return as<arrow::UInt8Array>(column).Value(row);
    case Type::UINT16: return as<arrow::UInt16Array>(column).Value(row);
    case Type::UINT32: return as<arrow::UInt32Array>(column).Value(row);
    case Type::UINT64: return as<arrow::UInt64Array>(column).Value(row);
    case Type::HALF_FLOAT:
      return number_of(arrow::util::Float16::FromBits(as<arrow::HalfFloatArray>(column).Value(row)).ToFloat());
    case Type::FLOAT: return number_of(as<arrow::FloatArray>(column).Value(row));
    case Type::DOUBLE: return number_of(as<arrow::DoubleArray>(column).Value(row));
    default: return text_or_time_of(column, row);
  }
}

}  // namespace flexgen

// The JSON form of structs that list their fields (base/fields.hpp), and of lists, maps and optionals of them: an
// object whose members are the fields, in their order; null for what is not there.
//
// Through the JSON library's own conversions: `Json j = value;` and `j.get<T>()` work wherever this is included. What
// is read must have every field. Numbers of these structs are sizes, counts, rates and times: what is read may not be
// negative or infinite.
#pragma once

#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <string_view>
#include <type_traits>

#include "base/fields.hpp"

namespace flexgen {

using Json = nlohmann::ordered_json;

/// Throws std::domain_error unless `value` is a number that is neither negative nor infinite.
void check_field_number(const char* name, double value);

template <class J, class T>
void write_field(J& to, const T& value) {
  to = value;
}
template <class J, class T>
void write_field(J& to, const std::optional<T>& value) {
  to = value ? J(*value) : J();
}

template <class J, class T>
void read_field(const J& from, const char* name, T& value) {
  const J& given = from.at(name);
  if constexpr (std::is_arithmetic_v<T> && !std::is_same_v<T, bool>) {
    check_field_number(name, given.template get<double>());
  }
  value = given.template get<T>();
}
template <class J, class T>
void read_field(const J& from, const char* name, std::optional<T>& value) {
  value.reset();
  const auto given = from.find(name);  // a file of an earlier version may lack it
  if (given != from.end() && !given->is_null()) value = given->template get<T>();
}

/// In one line; bytes that are no UTF-8 are replaced.
template <class T>
std::string to_json_text(const T& value) {
  return Json(value).dump(-1, ' ', false, Json::error_handler_t::replace);
}
/// Throws std::exception for what is not the form of a T.
template <class T>
T from_json_text(std::string_view text) {
  return Json::parse(text).template get<T>();
}

}  // namespace flexgen

template <flexgen::HasFields T>
struct nlohmann::adl_serializer<T, void> {
  template <class J>
  static void to_json(J& to, const T& value) {
    to = J::object();
    flexgen::visit_fields(value, [&](const char* name, const auto& field) { flexgen::write_field(to[name], field); });
  }
  template <class J>
  static void from_json(const J& from, T& value) {
    flexgen::visit_fields(value, [&](const char* name, auto& field) { flexgen::read_field(from, name, field); });
  }
};

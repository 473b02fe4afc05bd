// Structs that list their fields (base/fields.hpp) as JSON text and back: in one line, members in the order of the
// fields, null for what is not there. What ranks tell each other.
//
// The JSON library is seen in json_fields.cpp alone: to read its headers takes longer than to compile most files that
// include this one. What is read must have every field but
// optional ones; numbers may be neither negative nor infinite. Stateless but for the objects; one thread each.
#pragma once

#include <array>
#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <type_traits>
#include <vector>

#include "base/fields.hpp"

namespace flexgen {

class JsonWriter {
 public:
  void null() { put("null"); }
  void boolean(bool value) { put(value ? "true" : "false"); }
  void integer(std::int64_t value) { put(std::to_string(value)); }
  void natural(std::uint64_t value) { put(std::to_string(value)); }
  /// As many digits as give the same number again; null where it is not finite.
  void number(double value);
  /// Bytes that are no UTF-8 are replaced.
  void text(std::string_view value);
  void begin_list() { open('['); }
  void end_list() { close(']'); }
  void begin_object() { open('{'); }
  void end_object() { close('}'); }
  /// Of the member whose value comes next.
  void name(std::string_view name);

  const std::string& written() const { return text_; }

 private:
  void put(std::string_view token);
  void open(char bracket);
  void close(char bracket);

  std::string text_;
  bool needs_comma_ = false;
};

/// A value in a JsonDocument, which it must not outlive. Throws std::exception where a value is of another kind.
class JsonView {
 public:
  bool is_null() const;
  bool boolean() const;
  std::int64_t integer() const;
  std::uint64_t natural() const;
  double number() const;
  std::string text() const;
  /// Of a list or an object.
  std::size_t size() const;
  JsonView at(std::size_t index) const;
  JsonView member(const char* name) const;
  std::optional<JsonView> find(const char* name) const;
  std::vector<std::string> names() const;

 private:
  friend class JsonDocument;
  explicit JsonView(const void* value) : value_(value) {}

  const void* value_;
};

class JsonDocument {
 public:
  /// Throws std::exception for what is no JSON text.
  explicit JsonDocument(std::string_view text);
  ~JsonDocument();
  JsonDocument(const JsonDocument&) = delete;
  JsonDocument& operator=(const JsonDocument&) = delete;

  JsonView root() const;

 private:
  class Value;
  std::unique_ptr<Value> value_;
};

/// Throws std::domain_error unless `value` is a number that is neither negative nor infinite.
void check_field_number(const char* name, double value);

// A type that is no struct with fields, as an enumeration, has conversions for any JSON library (spec/dtype.hpp): here
// its JSON is a text.
struct JsonTextOf {
  std::string text;
  template <class T>
  T get() const {
    return text;
  }
};

template <class T>
void write_json(JsonWriter& to, const std::optional<T>& value);
template <class T>
void write_json(JsonWriter& to, const std::vector<T>& value);
template <class T, std::size_t Size>
void write_json(JsonWriter& to, const std::array<T, Size>& value);
template <class T>
void write_json(JsonWriter& to, const std::map<std::string, T>& value);

template <class T>
void write_json(JsonWriter& to, const T& value) {
  if constexpr (std::is_same_v<T, bool>) {
    to.boolean(value);
  } else if constexpr (std::is_floating_point_v<T>) {
    to.number(value);
  } else if constexpr (std::is_unsigned_v<T>) {
    to.natural(value);
  } else if constexpr (std::is_integral_v<T>) {
    to.integer(value);
  } else if constexpr (std::is_convertible_v<const T&, std::string_view>) {
    to.text(value);
  } else if constexpr (HasFields<T>) {
    to.begin_object();
    visit_fields(value, [&](const char* name, const auto& field) {
      to.name(name);
      write_json(to, field);
    });
    to.end_object();
  } else {
    std::string text;
    to_json(text, value);
    to.text(text);
  }
}
template <class T>
void write_json(JsonWriter& to, const std::optional<T>& value) {
  if (value) write_json(to, *value);
  else to.null();
}
template <class List>
void write_json_list(JsonWriter& to, const List& list) {
  to.begin_list();
  for (const auto& one : list) write_json(to, one);
  to.end_list();
}
template <class T>
void write_json(JsonWriter& to, const std::vector<T>& value) {
  write_json_list(to, value);
}
template <class T, std::size_t Size>
void write_json(JsonWriter& to, const std::array<T, Size>& value) {
  write_json_list(to, value);
}
template <class T>
void write_json(JsonWriter& to, const std::map<std::string, T>& value) {
  to.begin_object();
  for (const auto& [name, one] : value) {
    to.name(name);
    write_json(to, one);
  }
  to.end_object();
}

template <class T>
void read_json(const JsonView& from, const char* name, std::vector<T>& value);
template <class T, std::size_t Size>
void read_json(const JsonView& from, const char* name, std::array<T, Size>& value);
template <class T>
void read_json(const JsonView& from, const char* name, std::map<std::string, T>& value);
template <class T>
void read_json_member(const JsonView& from, const char* name, std::optional<T>& value);

/// `name` is that of the field, for messages.
template <class T>
void read_json(const JsonView& from, const char* name, T& value) {
  if constexpr (std::is_same_v<T, bool>) {
    value = from.boolean();
  } else if constexpr (std::is_arithmetic_v<T>) {
    check_field_number(name, from.number());
    if constexpr (std::is_floating_point_v<T>) value = static_cast<T>(from.number());
    else if constexpr (std::is_unsigned_v<T>) value = static_cast<T>(from.natural());
    else value = static_cast<T>(from.integer());
  } else if constexpr (std::is_same_v<T, std::string>) {
    value = from.text();
  } else if constexpr (HasFields<T>) {
    visit_fields(value, [&](const char* field_name, auto& field) { read_json_member(from, field_name, field); });
  } else {
    from_json(JsonTextOf{from.text()}, value);
  }
}
template <class T>
void read_json_member(const JsonView& from, const char* name, T& value) {
  read_json(from.member(name), name, value);
}
template <class T>
void read_json_member(const JsonView& from, const char* name, std::optional<T>& value) {
  value.reset();
  const std::optional<JsonView> given = from.find(name);
  if (given && !given->is_null()) read_json(*given, name, value.emplace());
}
template <class T>
void read_json(const JsonView& from, const char* name, std::vector<T>& value) {
  value.clear();
  for (std::size_t i = 0; i < from.size(); ++i) read_json(from.at(i), name, value.emplace_back());
}
template <class T, std::size_t Size>
void read_json(const JsonView& from, const char* name, std::array<T, Size>& value) {
  for (std::size_t i = 0; i < Size; ++i) read_json(from.at(i), name, value[i]);
}
template <class T>
void read_json(const JsonView& from, const char*, std::map<std::string, T>& value) {
  value.clear();
  for (const std::string& name : from.names()) read_json(from.member(name.c_str()), name.c_str(), value[name]);
}

template <class T>
std::string to_json_text(const T& value) {
  JsonWriter writer;
  write_json(writer, value);
  return writer.written();
}
/// Throws std::exception for what is not the form of a T.
template <class T>
T from_json_text(std::string_view text) {
  const JsonDocument document(text);
  T value;
  read_json(document.root(), "", value);
  return value;
}

}  // namespace flexgen

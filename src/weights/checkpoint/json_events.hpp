// Strict, streaming JSON for the headers of checkpoints: no tree is built, so a hostile header costs no memory
// beyond what its reader keeps, and duplicate keys are seen.
//
// Internal to the readers' source files (it shows the JSON library).
#pragma once

#include <cstdint>
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>

#include "weights/checkpoint/refusal.hpp"

namespace flexgen::checkpoint {

/// Receives the events of one document; a handler refuses what it does not expect by throwing.
class JsonEvents : public nlohmann::json_sax<nlohmann::json> {
 public:
  explicit JsonEvents(std::string_view file) : file_(file) {}

  // The library's side.
  bool null() final { return on_other(), true; }
  bool boolean(bool) final { return on_other(), true; }
  bool number_integer(number_integer_t) final { return on_other(), true; }
  bool number_unsigned(number_unsigned_t value) final { return on_count(value), true; }
  bool number_float(number_float_t, const string_t&) final { return on_other(), true; }
  bool string(string_t& value) final { return on_string(value), true; }
  bool binary(binary_t&) final { return on_other(), true; }
  bool start_object(std::size_t) final { return on_open('{'), true; }
  bool start_array(std::size_t) final { return on_open('['), true; }
  bool end_object() final { return on_close(), true; }
  bool end_array() final { return on_close(), true; }
  bool key(string_t& value) final { return on_key(value), true; }
  bool parse_error(std::size_t position, const std::string&, const nlohmann::json::exception&) final {
    refuse_file(file_, "its JSON header is not valid at byte " + std::to_string(position));
  }

 protected:
  virtual void on_open(char bracket) = 0;  // '{' or '['
  virtual void on_close() = 0;
  virtual void on_key(std::string& key) = 0;
  virtual void on_string(std::string& value) = 0;
  virtual void on_count(std::uint64_t value) = 0;  // an integer >= 0
  virtual void on_other() = 0;                     // null, bool, negative or fractional number

  std::string_view file() const { return file_; }

 private:
  std::string_view file_;
};

/// Feeds the document to `events`. Throws UserError (model) on text that is not one JSON object.
inline void parse_json_object(std::string_view text, std::string_view file, JsonEvents& events) {
  // The library would take a NUL for the end of the text and skip a byte-order mark.
  if (text.find('\0') != std::string_view::npos) refuse_file(file, "its JSON header holds a NUL byte");
  const std::size_t first = text.find_first_not_of(" \t\r\n");
  if (first == std::string_view::npos || text[first] != '{') refuse_file(file, "its header is not a JSON object");
  nlohmann::json::sax_parse(text.begin(), text.end(), &events);
}

}  // namespace flexgen::checkpoint

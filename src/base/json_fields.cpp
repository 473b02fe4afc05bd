#include "base/json_fields.hpp"

#include <cmath>
#include <nlohmann/json.hpp>
#include <stdexcept>

namespace flexgen {
namespace {

using Json = nlohmann::json;

const Json& json_of(const void* value) { return *static_cast<const Json*>(value); }

std::string in_one_line(const Json& value) { return value.dump(-1, ' ', false, Json::error_handler_t::replace); }

}  // namespace

void JsonWriter::put(std::string_view token) {
  if (needs_comma_) text_ += ',';
  text_ += token;
  needs_comma_ = true;
}

void JsonWriter::open(char bracket) {
  put({&bracket, 1});
  needs_comma_ = false;
}

void JsonWriter::close(char bracket) {
  text_ += bracket;
  needs_comma_ = true;
}

void JsonWriter::name(std::string_view name) {
  text(name);
  text_ += ':';
  needs_comma_ = false;
}

void JsonWriter::number(double value) { put(in_one_line(value)); }
void JsonWriter::text(std::string_view value) { put(in_one_line(value)); }

bool JsonView::is_null() const { return json_of(value_).is_null(); }
bool JsonView::boolean() const { return json_of(value_).get<bool>(); }
std::int64_t JsonView::integer() const { return json_of(value_).get<std::int64_t>(); }
std::uint64_t JsonView::natural() const { return json_of(value_).get<std::uint64_t>(); }
double JsonView::number() const { return json_of(value_).get<double>(); }
std::string JsonView::text() const { return json_of(value_).get<std::string>(); }
std::size_t JsonView::size() const {
  if (!json_of(value_).is_structured()) throw std::domain_error("a list or an object is wanted");
  return json_of(value_).size();
}
JsonView JsonView::at(std::size_t index) const { return JsonView(&json_of(value_).at(index)); }
JsonView JsonView::member(const char* name) const { return JsonView(&json_of(value_).at(name)); }
std::optional<JsonView> JsonView::find(const char* name) const {
  const Json& object = json_of(value_);
  if (!object.is_object()) throw std::domain_error("an object is wanted");
  const auto found = object.find(name);
  if (found == object.end()) return std::nullopt;
  return JsonView(&*found);
}
std::vector<std::string> JsonView::names() const {
  std::vector<std::string> names;
  for (const auto& [name, value] : json_of(value_).items()) names.push_back(name);
  return names;
}

class JsonDocument::Value {
 public:
  explicit Value(std::string_view text) : json(Json::parse(text)) {}
  const Json json;
};

JsonDocument::JsonDocument(std::string_view text) : value_(std::make_unique<Value>(text)) {}
JsonDocument::~JsonDocument() = default;
JsonView JsonDocument::root() const { return JsonView(&value_->json); }

void check_field_number(const char* name, double value) {
  if (!std::isfinite(value) || value < 0)
    throw std::domain_error(std::string("'") + name + "' must be a number that is not negative");
}

}  // namespace flexgen

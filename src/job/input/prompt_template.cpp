#include "job/input/prompt_template.hpp"

#include <fmt/core.h>

#include <algorithm>

#include "base/error.hpp"
#include "job/request_fields.hpp"

namespace flexgen {
namespace {

[[noreturn]] void refuse_template(const std::string& text, std::string_view why) {
  throw UserError(ExitCode::usage, fmt::format("--prompt-template \"{}\" cannot be filled", shorten(text, 200)), why,
                  "Write places as {name}, and braces of your own as {{ and }}");
}

}  // namespace

PromptTemplate::PromptTemplate(const std::string& text) {
  Part part;
  for (std::size_t i = 0; i < text.size(); ++i) {
    const char c = text[i];
    const bool is_doubled = i + 1 < text.size() && text[i + 1] == c;
    if (c != '{' && c != '}') {
      part.text += c;
    } else if (is_doubled) {
      part.text += c;
      ++i;
    } else if (c == '}') {
      refuse_template(text, "a '}' closes nothing");
    } else {
      const std::size_t end = text.find_first_of("{}", i + 1);
      if (end == std::string::npos || text[end] == '{') refuse_template(text, "a '{' is not closed");
      part.field = text.substr(i + 1, end - i - 1);
      if (part.field.empty()) refuse_template(text, "a place has no name");
      parts_.push_back(std::exchange(part, {}));
      i = end;
    }
  }
  if (parts_.empty()) refuse_template(text, "it names no field, so that all prompts would be the same");
  parts_.push_back(std::move(part));
}

bool PromptTemplate::names(const std::string& field) const {
  return std::ranges::any_of(parts_, [&](const Part& part) { return !part.field.empty() && part.field == field; });
}

std::string PromptTemplate::fill(const nlohmann::json& fields) const {
  std::string filled;
  for (const Part& part : parts_) {
    filled += part.text;
    if (part.field.empty()) continue;
    const nlohmann::json* value = find_set(fields, part.field.c_str());
    if (!value)
      throw RowProblem("missing_field", fmt::format("field '{}' is missing: --prompt-template names it. Add it",
                                                    shorten(part.field, 60)));
    filled += value->is_string() ? value->get_ref<const std::string&>() : value->dump();
  }
  return filled;
}

}  // namespace flexgen

// A prompt with places for fields of its row: "Is {title_a} the same as {title_b}?"
//
// "{{" and "}}" stand for braces. A string goes in as it is, anything else as JSON. Immutable; thread-safe. Private to
// the room but for its making (its header shows the JSON library's forward declarations alone).
#pragma once

#include <nlohmann/json_fwd.hpp>
#include <string>
#include <vector>

namespace flexgen {

class PromptTemplate {
 public:
  /// Throws UserError (usage) for a brace without its other half and for a place without a name.
  explicit PromptTemplate(const std::string& text);

  /// The field's name, or none.
  bool names(const std::string& field) const;
  /// Throws RowProblem (missing_field) where `fields`, an object, lacks one that is named; null is missing, too.
  std::string fill(const nlohmann::json& fields) const;

 private:
  struct Part {
    std::string text;   // in front of the field
    std::string field;  // empty: the last part
  };
  std::vector<Part> parts_;
};

}  // namespace flexgen

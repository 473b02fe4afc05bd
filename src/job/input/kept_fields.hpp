// Which of a row's own fields come back in its result: --keep-fields.
//
// Of a plain row its fields, of a batch row those beside `body`, in `body` and in its `metadata`, in this order. Plain
// data; thread-safe. Private to the room but for its making.
#pragma once

#include <nlohmann/json_fwd.hpp>
#include <string>
#include <vector>

namespace flexgen {

class KeptFields {
 public:
  /// @param names  with commas between them, or "all": every field that means nothing to a request. Throws UserError
  /// (usage) for a name that a result has for itself.
  explicit KeptFields(const std::string& names);

  bool keeps(const std::string& field) const;
  /// The text of a JSON object; empty where the row has none of them.
  /// @param document  the row, an object
  std::string of(const nlohmann::json& document, bool batch_format) const;

 private:
  bool are_all_ = false;
  std::vector<std::string> names_;
};

/// A field that results have for themselves: one of that name that `all` keeps is called "row.NAME" in a result.
bool is_result_field(const std::string& name);

}  // namespace flexgen

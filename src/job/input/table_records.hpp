// Rows out of a table in text: its first record names the columns, every other one is an object of fields.
//
// Columns that a request reads (prompt, custom_id, max_tokens, ...) mean what they mean in a plain row: those that are
// no texts are read as JSON, and an empty one is not there. All others are texts of the user's own.
//
// Private to the room. One thread reads.
#pragma once

#include <string>
#include <vector>

#include "job/input/record_source.hpp"
#include "job/input/table_text.hpp"

namespace flexgen {

class TableRecords final : public RecordSource {
 public:
  /// Reads the names of the columns. Throws UserError (file) where they are none.
  /// @param separator   ',' also takes a table whose first line has semicolons and no comma
  TableRecords(const std::string& path, std::unique_ptr<InputText> text, char separator, std::size_t max_record_bytes);

  bool next(Record& record) override;
  std::optional<Extent> extent() const override;
  void interrupt() override { table_.text().file().interrupt(); }

 private:
  struct Column {
    std::string name;
    enum class Kind { text, own_text, json } kind = Kind::own_text;
  };

  void read_columns(const std::string& path);
  nlohmann::json read_field(const Column& column, std::string text) const;

  char separator_;
  TableText table_;
  TableRecord record_;
  std::vector<Column> columns_;
};

}  // namespace flexgen

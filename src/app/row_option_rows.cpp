#include "app/row_option_rows.hpp"

#include <memory>
#include <string>

#include "job/input/kept_fields.hpp"
#include "job/input/prompt_template.hpp"
#include "run/rows/error_limit.hpp"

namespace flexgen {

std::vector<OptionRow> input_rows(RowOptions& rows) {
  const auto keep_format = [&rows](const std::string& option, const std::string& word) {
    rows.inputs.format = parse_input_format(word);
    rows.as_given[option] = word;
  };
  const auto keep_template = [&rows](const std::string& option, const std::string& word) {
    rows.prompt_template = std::make_shared<const PromptTemplate>(word);
    rows.as_given[option] = word;
  };
  return {
      {"input-format", "FORM", into::word("auto", keep_format),
       "auto (by the name's ending) | jsonl | csv | tsv | parquet; gzip and zstd are unpacked whatever the name"},
      {"prompt-template", "TEXT", into::word("", keep_template),
       "makes the prompt of a row's fields: \"Is {a} the same as {b}?\"; {{ and }} are braces"},
  };
}

std::vector<OptionRow> row_rule_rows(RowOptions& rows) {
  const auto keep_kept = [&rows](const std::string& option, const std::string& word) {
    rows.kept_fields = std::make_shared<const KeptFields>(word);
    rows.as_given[option] = word;
  };
  const auto keep_limit = [&rows](const std::string& option, const std::string& word) {
    rows.errors = ErrorLimit::parse(option, word);
  };
  return {
      {"keep-fields", "A,B|all", into::word("", keep_kept), "fields of a row that its result has, too"},
      {"max-row-errors", "N|P%", into::word("", keep_limit),
       "end the job where more rows fail; a share is judged from 100 rows on"},
  };
}

}  // namespace flexgen

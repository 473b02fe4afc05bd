#include "run/rows/row_lengths.hpp"

#include <algorithm>
#include <random>
#include <variant>

#include "base/error.hpp"
#include "run/model/model_text.hpp"
#include "run/rows/common_beginnings.hpp"
#include "run/rows/prompt_fit.hpp"

namespace flexgen {
namespace {

using Draw = std::uniform_int_distribution<std::int32_t>;

LengthReport describe(const std::vector<RowLengths>& rows, std::int32_t RowLengths::*length) {
  const auto [least, most] = std::ranges::minmax_element(rows, {}, length);
  double sum = 0;
  for (const RowLengths& row : rows) sum += row.*length;
  return {*least.*length, *most.*length, sum / static_cast<double>(rows.size())};
}

}  // namespace

std::vector<RowLengths> draw_lengths(const LengthRange& prompt, const LengthRange& generated, std::int64_t count,
                                     std::uint64_t seed) {
  std::mt19937_64 random(seed);
  Draw draw_prompt(prompt.least, prompt.most), draw_generated(generated.least, generated.most);
  std::vector<RowLengths> rows(static_cast<std::size_t>(count));
  for (RowLengths& row : rows) {
    row.prompt = draw_prompt(random);
    row.generated = draw_generated(random);
  }
  return rows;
}

InputLengths read_lengths(RequestReader& reader, const Tokenizer& tokenizer, const ModelSpec& model,
                          const LengthRange& generated, std::int64_t most, std::uint64_t seed) {
  std::mt19937_64 random(seed);
  Draw draw_generated(generated.least, generated.most);
  const PromptFit fit{model.max_positions};
  InputLengths lengths;
  CommonBeginnings beginnings;
  const auto leave_out = [&](const std::string& fault) {
    if (lengths.num_bad_rows++ == 0) lengths.first_fault = fault;
  };
  const auto is_full = [&] { return most > 0 && std::ssize(lengths.rows) >= most; };
  while (!is_full()) {
    const std::optional<ParsedRow> row = reader.next();
    if (!row) break;
    if (const auto* error = std::get_if<RowError>(&*row)) {
      leave_out(error->message);
      continue;
    }
    const auto* request = std::get_if<Request>(&*row);
    for (const Prompt& prompt : request->prompts) {
      if (is_full()) break;
      const std::int32_t wanted = request->names_max_tokens ? request->max_tokens : draw_generated(random);
      try {
        std::vector<std::int32_t> ids = prompt_ids(tokenizer, model, prompt);
        const std::int32_t made = fit.apply(ids, wanted, !request->names_max_tokens, 0);
        const auto shared = static_cast<std::int32_t>(beginnings.add(ids));
        lengths.rows.push_back({static_cast<std::int32_t>(ids.size()), made, shared});
      } catch (const UserError& error) {
        leave_out(error.what());
      }
    }
  }
  return lengths;
}

JobShape shape_of(const std::vector<RowLengths>& rows) {
  JobShape shape;
  for (const RowLengths& row : rows) shape.add_rows(row.prompt, row.generated);
  return shape;
}

JobShape shape_with_sharing(const std::vector<RowLengths>& rows) {
  JobShape shape = shape_of(rows);
  for (const RowLengths& row : rows) shape.shared_prompt_tokens += row.shared;
  return shape;
}

LengthsReport describe_lengths(const std::vector<RowLengths>& rows) {
  LengthsReport report;
  report.prompt = describe(rows, &RowLengths::prompt);
  report.generated = describe(rows, &RowLengths::generated);
  return report;
}

}  // namespace flexgen

#include "run/verify/sample.hpp"

#include <algorithm>
#include <memory>
#include <random>
#include <utility>
#include <variant>

#include "base/error.hpp"
#include "run/rows/planned_rows.hpp"
#include "run/rows/rows_ahead.hpp"

namespace flexgen {
namespace {

using SampledRow = std::unique_ptr<OpenRow>;

// Which rows are kept: each of the input as likely as any other (a reservoir), or the first.
class RowDraw {
 public:
  RowDraw(std::size_t most, std::optional<std::uint64_t> seed)
      : most_(most), is_drawn_(seed.has_value()), random_(seed.value_or(0)) {}

  bool wants_more() const { return is_drawn_ || rows_.size() < most_; }

  void offer(SampledRow row) {
    const std::size_t number = num_offered_++;
    if (rows_.size() < most_) {
      rows_.emplace_back(number, std::move(row));
    } else if (is_drawn_) {
      const std::size_t place = std::uniform_int_distribution<std::size_t>(0, number)(random_);
      if (place < most_) rows_[place] = {number, std::move(row)};
    }
  }

  /// In their order.
  std::vector<SampledRow> take() {
    std::ranges::sort(rows_, {}, &std::pair<std::size_t, SampledRow>::first);
    std::vector<SampledRow> rows;
    for (auto& [number, row] : rows_) rows.push_back(std::move(row));
    return rows;
  }

 private:
  std::size_t most_;
  bool is_drawn_;
  std::mt19937_64 random_;
  std::size_t num_offered_ = 0;
  std::vector<std::pair<std::size_t, SampledRow>> rows_;
};

std::variant<SampledRow, RowError> open_parsed(ParsedRow parsed, const RowRules& rules) {
  if (auto* error = std::get_if<RowError>(&parsed)) return std::move(*error);
  return open_row(std::get<Request>(std::move(parsed)), rules);
}

// Several answers to one prompt would be the same one.
void add_sequences(const OpenRow& row, std::int32_t max_positions, std::vector<SampleSequence>& to) {
  for (std::size_t i = 0; i < row.sequences.size(); ++i) {
    const OpenRow::Sequence& own = row.sequences[i];
    if (i > 0 && own.choice.empty() && own.prompt == row.sequences[i - 1].prompt) continue;
    RowRequest run = row.to_run(i);
    const std::int32_t room = std::max(0, max_positions - static_cast<std::int32_t>(run.prompt.size()));
    to.push_back({row.request.custom_id, std::move(run.prompt), std::min(run.max_new_tokens, room), run.stop_at_eos,
                  std::move(run.stop_tokens)});
  }
}

}  // namespace

Sample read_sample(RequestReader& reader, const RowRules& rules, std::size_t num_rows,
                   std::optional<std::uint64_t> seed) {
  const std::size_t most_planned = WindowLimits{}.num_rows;
  Sample sample;
  PlannedRows planned;
  RowDraw draw(num_rows, seed);
  bool has_ended = false;
  while (draw.wants_more() || planned.num_rows() < most_planned) {
    std::optional<ParsedRow> parsed = reader.next();
    has_ended = !parsed;
    if (has_ended) break;
    ++sample.num_read;
    auto opened = open_parsed(std::move(*parsed), rules);
    if (const auto* error = std::get_if<RowError>(&opened)) {
      if (sample.num_bad_rows++ == 0) sample.first_fault = error->message;
      continue;
    }
    auto& row = std::get<SampledRow>(opened);
    if (planned.num_rows() < most_planned) planned.add(*row);
    draw.offer(std::move(row));
  }
  const std::vector<SampledRow> rows = draw.take();
  if (rows.empty())
    throw UserError(ExitCode::file, "--input has no row that this model can run",
                    sample.num_bad_rows == 0 ? "it is empty" : sample.first_fault);
  if (!has_ended || planned.num_rows() + sample.num_bad_rows < sample.num_read) planned.expect_more(rules.model);
  sample.job = planned.shape();
  sample.num_rows = rows.size();
  for (const SampledRow& row : rows) add_sequences(*row, rules.model.max_positions, sample.sequences);
  return sample;
}

}  // namespace flexgen

#include "run/rows/score_book.hpp"

#include <fmt/core.h>

#include <algorithm>
#include <utility>

#include "base/error.hpp"
#include "base/log.hpp"
#include "run/model/model_text.hpp"
#include "run/rows/number_fault.hpp"

namespace flexgen {

void ScoreBook::read(RequestReader& reader) {
  while (const std::optional<ParsedRow> row = reader.next()) {
    if (!admit(identity_of(*row))) ++num_rows_;
    else if (const auto* error = std::get_if<RowError>(&*row)) add_error(*error);
    else add_request(std::get<Request>(*row));
  }
}

void ScoreBook::count_earlier(const RowTotals& earlier) {
  num_failed_ = earlier.failed_rows;
  num_written_ = earlier.rows;
  totals_.tokens = earlier.scored_tokens;
  totals_.log_probability = earlier.log_probability;
}

bool ScoreBook::admit(const RowIdentity& row) { return !writer_ || writer_->admit(row); }

void ScoreBook::add_text(const std::string& id, const std::string& text) {
  RowIdentity identity;
  identity.line_number = 1;
  identity.custom_id = id;
  admit(identity);
  add_row(identity, false, {prompt_ids(tokenizer_, model_, text)});
}

void ScoreBook::add_error(const RowError& error) {
  ++num_rows_;
  write_error(error);
}

void ScoreBook::write_error(const RowError& error) {
  ++num_failed_;
  ++num_written_;
  if (writer_) writer_->write(error, format_error(error), {true});
}

void ScoreBook::add_request(const Request& request) {
  if (request.batch_format) {
    add_error(
        {static_cast<const RowIdentity&>(request), "unsupported_url",
         "a batch row cannot be scored: /v1/completions generates. Write a plain row, {\"custom_id\", \"text\"}"});
    return;
  }
  std::vector<std::vector<std::int32_t>> texts;
  try {
    for (const Prompt& prompt : request.prompts) texts.push_back(prompt_ids(tokenizer_, model_, prompt));
  } catch (const UserError& error) {
    add_error({static_cast<const RowIdentity&>(request), "invalid_prompt", error.what()});
    return;
  }
  add_row(request, request.prompt_is_list, std::move(texts));
}

void ScoreBook::add_row(const RowIdentity& identity, bool prompt_is_list,
                        std::vector<std::vector<std::int32_t>> texts) {
  ++num_rows_;
  auto row = std::make_shared<OpenRow>();
  static_cast<RowIdentity&>(row->result) = identity;
  row->result.prompt_is_list = prompt_is_list;
  row->result.texts.resize(texts.size());
  for (std::size_t i = 0; i < texts.size(); ++i) {
    row->result.texts[i].token_ids = std::move(texts[i]);
    add_windows(row, i);
  }
  if (row->num_open == 0) write(*row);  // single tokens: nothing is predicted
}

void ScoreBook::add_windows(const std::shared_ptr<OpenRow>& row, std::size_t text) {
  ScoredText& scored = row->result.texts[text];
  std::int64_t num_tokens = std::ssize(scored.token_ids);
  if (rules_.max_tokens > 0) num_tokens = std::min(num_tokens, rules_.max_tokens + 1);
  const std::vector<ScoreWindow> windows = cut_windows(num_tokens, rules_.window, rules_.stride);
  if (windows.empty()) return;
  scored.log_probabilities.resize(static_cast<std::size_t>(num_tokens) - 1);
  for (const ScoreWindow& place : windows) {
    windows_.push_back({row, text, place, 0});
    ++row->num_open;
    num_window_tokens_ += static_cast<std::uint64_t>(place.length);
    num_to_score_ += static_cast<std::uint64_t>(place.num_counted);
    shape_.add_rows(place.length, 0);
  }
}

std::optional<RowRequest> ScoreBook::next_row() {
  if (num_left() == 0) return std::nullopt;
  RowRequest request;
  request.id = RowId(num_pulled_++);
  request.max_new_tokens = 0;
  request.score_prompt = true;
  const Window& window = windows_[request.id.index()];
  const auto first = window.row->result.texts[window.text].token_ids.begin() + window.place.first;
  request.prompt.assign(first, first + window.place.length);
  return request;
}

std::size_t ScoreBook::add_scores(RowId id, std::span<const float> scores) {
  Window& window = windows_[id.index()];
  const std::int64_t begin = window.num_scored;
  window.num_scored += std::ssize(scores);
  FLEXGEN_CHECK(window.num_scored < window.place.length, "a window has more scores than tokens");
  if (window.row->has_failed) return 0;
  // The window's last are counted. Scores of token 1 stand at 0.
  const std::int64_t num_passed =
      std::clamp<std::int64_t>(window.place.length - 1 - window.place.num_counted - begin, 0, std::ssize(scores));
  const auto counted = scores.subspan(static_cast<std::size_t>(num_passed));
  std::copy(counted.begin(), counted.end(),
            window.row->result.texts[window.text].log_probabilities.begin() + window.place.first + begin + num_passed);
  return counted.size();
}

bool ScoreBook::finish(RowId id) {
  const std::shared_ptr<OpenRow> row = std::move(windows_[id.index()].row);
  if (row->has_failed || --row->num_open > 0) return false;
  write(*row);
  return true;
}

bool ScoreBook::fail(RowId id) {
  Window& window = windows_[id.index()];
  const std::shared_ptr<OpenRow> row = std::move(window.row);
  if (std::exchange(row->has_failed, true)) return false;
  const std::string where =
      row->result.prompt_is_list ? fmt::format("text {} of the row", window.text) : std::string("the text");
  const std::int64_t first = window.place.first + 1;
  const RowError error =
      number_error(row->result,
                   fmt::format("the model gave no number as the score of a token of {}, among tokens {} .. {}", where,
                               first, first + window.place.length - 1),
                   dtype_);
  write_error(error);
  if (!std::exchange(has_warned_, true)) log::warn(fmt::format("row '{}': {}", error.custom_id, error.message));
  return true;
}

void ScoreBook::write(const OpenRow& row) {
  ++num_written_;
  RowOutcome outcome;
  for (const ScoredText& text : row.result.texts) {
    for (const float score : text.log_probabilities) outcome.log_probability += static_cast<double>(score);
    outcome.scored_tokens += text.log_probabilities.size();
  }
  totals_.log_probability += outcome.log_probability;
  totals_.tokens += outcome.scored_tokens;
  if (writer_) writer_->write(row.result, format_scores(row.result, rules_.return_token_ids), outcome);
}

}  // namespace flexgen

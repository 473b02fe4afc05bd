#include "run/rows/score_book.hpp"

#include <fmt/core.h>

#include <algorithm>
#include <utility>

#include "base/error.hpp"
#include "base/log.hpp"
#include "run/model/model_text.hpp"
#include "run/rows/number_fault.hpp"

namespace flexgen {

ScoreBook::ScoreBook(const Tokenizer& tokenizer, const ModelSpec& model, ResultWriter* writer, ScoreRules rules)
    : tokenizer_(tokenizer),
      model_(model),
      writer_(writer),
      rules_(rules),
      accounts_(writer, rules_.errors),
      ahead_(rules_.ahead, {[this](const RowIdentity& row) { return admit(row); },
                            [this](ParsedRow row) { return open(std::move(row)); }}) {
  counts_.rows = earlier().rows;
  totals_.tokens = earlier().scored_tokens;
  totals_.log_probability = earlier().log_probability;
}

void ScoreBook::read(RequestReader& reader) {
  ahead_.fill(reader, [this](const Ahead::Opened& opened) {
    if (const auto* error = std::get_if<RowError>(&opened.row)) return add_unread(*error);
    plan_by(*std::get<std::unique_ptr<OpenRow>>(opened.row));
  });
  if (!has_read_all()) shape_.add_rows(rules_.window, 0);
}

bool ScoreBook::admit(const RowIdentity& row) { return !writer_ || writer_->admit(row); }

void ScoreBook::add_text(const std::string& id, const std::string& text) {
  RowIdentity identity;
  identity.line_number = 1;
  identity.custom_id = id;
  admit(identity);
  Ahead::Opened opened = open_texts(identity, false, {prompt_ids(tokenizer_, model_, text)});
  plan_by(*std::get<std::unique_ptr<OpenRow>>(opened.row));
  ahead_.put(std::move(opened));
}

void ScoreBook::start(std::function<void(bool)> on_row) {
  if (writer_) writer_->start();
  on_row_ = std::move(on_row);
  accounts_.start([this] {
    if (on_row_) on_row_(true);
  });
  ahead_.start();
}

void ScoreBook::flush() {
  ahead_.take_errors([this](const RowError& error) { add_unread(error); });
  if (writer_) writer_->flush();
}

/// On the thread that reads: tokenizes.
ScoreBook::Ahead::Opened ScoreBook::open(ParsedRow row) const {
  const auto refuse = [](RowError error) -> Ahead::Opened { return {std::move(error), sizeof(RowError), 0}; };
  if (auto* error = std::get_if<RowError>(&row)) return refuse(std::move(*error));
  const auto& request = std::get<Request>(row);
  if (request.batch_format)
    return refuse(
        {static_cast<const RowIdentity&>(request), "unsupported_url",
         "a batch row cannot be scored: /v1/completions generates. Write a plain row, {\"custom_id\", \"text\"}"});
  std::vector<std::vector<std::int32_t>> texts;
  try {
    for (const Prompt& prompt : request.prompts) texts.push_back(prompt_ids(tokenizer_, model_, prompt));
  } catch (const UserError& error) {
    return refuse({static_cast<const RowIdentity&>(request), "invalid_prompt", error.what()});
  }
  return open_texts(request, request.prompt_is_list, std::move(texts));
}

ScoreBook::Ahead::Opened ScoreBook::open_texts(const RowIdentity& identity, bool prompt_is_list,
                                               std::vector<std::vector<std::int32_t>> texts) const {
  auto row = std::make_unique<OpenRow>();
  static_cast<RowIdentity&>(row->result) = identity;
  row->result.prompt_is_list = prompt_is_list;
  row->result.texts.resize(texts.size());
  std::size_t num_bytes = sizeof(OpenRow) + identity.kept_fields.size();
  for (std::size_t i = 0; i < texts.size(); ++i) {
    num_bytes += texts[i].size() * sizeof(std::int32_t);
    for (const ScoreWindow& place : cut_windows(num_predicted(texts[i]) + 1, rules_.window, rules_.stride))
      row->windows.push_back({i, place, 0});
    row->result.texts[i].token_ids = std::move(texts[i]);
  }
  row->num_open = row->windows.size();
  num_bytes += row->windows.size() * sizeof(Window);
  const std::int64_t num_runs = std::ssize(row->windows);
  return {std::move(row), num_bytes, num_runs};
}

std::int64_t ScoreBook::num_predicted(const std::vector<std::int32_t>& ids) const {
  const std::int64_t num_all = std::max<std::int64_t>(0, std::ssize(ids) - 1);
  return rules_.max_tokens > 0 ? std::min(num_all, rules_.max_tokens) : num_all;
}

void ScoreBook::plan_by(OpenRow& row) {
  count(row);
  for (const Window& window : row.windows) shape_.add_rows(window.place.length, 0);
}

void ScoreBook::count(OpenRow& row) {
  if (std::exchange(row.is_counted, true)) return;
  ++counts_.rows;
  counts_.windows += row.windows.size();
  for (const Window& window : row.windows) {
    counts_.window_tokens += static_cast<std::uint64_t>(window.place.length);
    counts_.to_score += static_cast<std::uint64_t>(window.place.num_counted);
  }
}

void ScoreBook::add_unread(const RowError& error) { accounts_.add_unread(error, ++counts_.rows); }

std::optional<std::int64_t> ScoreBook::num_left() const {
  if (!has_read_all()) return std::nullopt;
  const std::int64_t of_row = next_.row ? std::ssize(next_.row->windows) - static_cast<std::int64_t>(next_.number) : 0;
  return ahead_.num_runs() + of_row;
}

std::optional<RowRequest> ScoreBook::next_row() {
  ahead_.take_errors([this](const RowError& error) { add_unread(error); });
  if (!next_.row && !take_row()) return std::nullopt;
  const RowWindow own = next_;
  if (++next_.number == own.row->windows.size()) next_.row = nullptr;
  const Window& window = *own;
  RowRequest request;
  request.id = RowId(num_pulled_++);
  request.max_new_tokens = 0;
  request.score_prompt = true;
  const auto first = own.row->result.texts[window.text].token_ids.begin() + window.place.first;
  request.prompt.assign(first, first + window.place.length);
  windows_[request.id.value] = own;
  return request;
}

/// The next one that has something to run. Of single tokens nothing is predicted: those are done.
bool ScoreBook::take_row() {
  for (;;) {
    next_ = {ahead_.next([this](const RowError& error) { add_unread(error); }), 0};
    if (!next_.row) return false;
    OpenRow& row = *next_.row;
    count(row);
    for (ScoredText& text : row.result.texts)
      text.log_probabilities.resize(static_cast<std::size_t>(num_predicted(text.token_ids)));
    if (!row.windows.empty()) return true;
    write(row);
    if (on_row_) on_row_(false);
  }
}

std::size_t ScoreBook::add_scores(RowId id, std::span<const float> scores) {
  const RowWindow& own = windows_.at(id.value);
  Window& window = *own;
  const std::int64_t begin = window.num_scored;
  window.num_scored += std::ssize(scores);
  FLEXGEN_CHECK(window.num_scored < window.place.length, "a window has more scores than tokens");
  if (own.row->has_failed) return 0;
  // The window's last are counted. Scores of token 1 stand at 0.
  const std::int64_t num_passed =
      std::clamp<std::int64_t>(window.place.length - 1 - window.place.num_counted - begin, 0, std::ssize(scores));
  const auto counted = scores.subspan(static_cast<std::size_t>(num_passed));
  std::copy(counted.begin(), counted.end(),
            own.row->result.texts[window.text].log_probabilities.begin() + window.place.first + begin + num_passed);
  return counted.size();
}

bool ScoreBook::finish(RowId id) {
  const SharedRow row = std::move(windows_.extract(id.value).mapped().row);
  if (row->has_failed || --row->num_open > 0) return false;
  write(*row);
  return true;
}

bool ScoreBook::fail(RowId id) {
  const RowWindow own = std::move(windows_.extract(id.value).mapped());
  const SharedRow& row = own.row;
  const Window& window = *own;
  if (std::exchange(row->has_failed, true)) return false;
  const std::string where =
      row->result.prompt_is_list ? fmt::format("text {} of the row", window.text) : std::string("the text");
  const std::int64_t first = window.place.first + 1;
  const RowError error =
      number_error(row->result,
                   fmt::format("the model gave no number as the score of a token of {}, among tokens {} .. {}", where,
                               first, first + window.place.length - 1),
                   dtype_);
  accounts_.add(error, counts_.rows);
  if (!std::exchange(has_warned_, true)) log::warn(fmt::format("row '{}': {}", error.custom_id, error.message));
  return true;
}

void ScoreBook::write(const OpenRow& row) {
  RowOutcome outcome;
  for (const ScoredText& text : row.result.texts) {
    for (const float score : text.log_probabilities) outcome.log_probability += static_cast<double>(score);
    outcome.scored_tokens += text.log_probabilities.size();
    accounts_.add_sequence(text.token_ids.size(), 0);
  }
  totals_.log_probability += outcome.log_probability;
  totals_.tokens += outcome.scored_tokens;
  if (writer_) writer_->write(row.result, format_scores(row.result, rules_.return_token_ids), outcome);
}

}  // namespace flexgen

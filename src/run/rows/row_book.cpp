#include "run/rows/row_book.hpp"

#include <fmt/core.h>

#include <algorithm>
#include <utility>

#include "base/error.hpp"
#include "base/log.hpp"
#include "run/rows/number_fault.hpp"

namespace flexgen {

RowBook::RowBook(const Tokenizer& tokenizer, const ModelSpec& model, ResultWriter& writer, ResultFormat format,
                 BookRules rules)
    : tokenizer_(tokenizer),
      model_(model),
      writer_(writer),
      format_(std::move(format)),
      rules_(std::move(rules)),
      accounts_(&writer, rules_.errors),
      ahead_(rules_.window, {[&writer](const RowIdentity& row) { return writer.admit(row); },
                             [this](ParsedRow row) { return open(std::move(row)); },
                             [this](const OpenRow& row) { return planned_.cover(row); }}) {
  counted_.job.rows = earlier().rows;
}

void RowBook::read(RequestReader& reader) {
  ahead_.fill(reader, [this](const Ahead::Opened& opened) { look_at(opened); });
  plan(ahead_.num_waiting(), Room::others);
}

void RowBook::look_at(const Ahead::Opened& opened) {
  if (const auto* error = std::get_if<RowError>(&opened.row)) add_unread(*error);
  else count(*std::get<std::unique_ptr<OpenRow>>(opened.row));
}

void RowBook::plan(std::size_t num_rows, Room room) {
  planned_.begin();
  ahead_.show(num_rows, [this](const OpenRow& row) { planned_.add(row); });
  if (room == Room::others && !has_read_all()) planned_.expect_more(model_);
}

bool RowBook::plan_by_less(const std::string& misfit) {
  const std::size_t num_rows = planned_.num_rows();
  if (planned_.has_room_for_others()) {
    log::info(fmt::format("no plan fits that has room for any row that may follow: planning for {} rows", num_rows));
    plan(num_rows, Room::known);
    return true;
  }
  const bool is_begun = pass_ > 0 || earlier().rows > 0;
  if (!is_begun || num_rows == 0) return false;
  if (num_rows > 1) {
    log::info(fmt::format("no plan fits {} rows: planning for half of them", num_rows));
    plan(num_rows / 2, Room::known);
    return true;
  }
  refuse_first(misfit);
  if (ahead_.num_waiting() == 0) ahead_.refill([this](const Ahead::Opened& opened) { look_at(opened); });
  plan(ahead_.num_waiting(), Room::others);
  return true;
}

/// By which the plan was made.
void RowBook::refuse_first(const std::string& misfit) {
  const JobShape needs = planned_.shape();
  std::vector<RowError> errors;
  ahead_.remove([&](const OpenRow& row) { return covers(needs_of(row), needs); },
                [&](OpenRow& row) {
                  count(row);
                  errors.push_back({row.request, "does_not_fit", "no plan has room for the row: " + misfit});
                });
  log::warn(fmt::format("row '{}' fits in no plan; {} more need as much as it does", errors.front().custom_id,
                        errors.size() - 1));
  planned_.forget();
  for (const RowError& error : errors) accounts_.add_unread(error, counted_.job.rows);
}

bool RowBook::begin_pass() {
  const JobShape before = planned_.shape();
  if (!ahead_.begin_pass()) return false;
  ++pass_;
  const std::size_t num_rows = ahead_.num_waiting();
  plan(num_rows, Room::known);
  log::info(
      fmt::format("{} row{} for which the plan has no room ({}): planned anew with what follows, and the weights "
                  "are read again",
                  num_rows, num_rows == 1 ? "" : "s", describe_lack(before, planned_.shape())));
  plan(num_rows, Room::others);
  return true;
}

void RowBook::start(std::function<void()> on_row_error) {
  writer_.start();
  accounts_.start(std::move(on_row_error));
  ahead_.sort_behind(planned_.num_rows());
  ahead_.start();
}

void RowBook::flush() {
  ahead_.take_errors([this](const RowError& error) { add_unread(error); });
  writer_.flush();
}

/// On the thread that reads: tokenizes.
RowBook::Ahead::Opened RowBook::open(ParsedRow row) const {
  if (auto* error = std::get_if<RowError>(&row))
    return {std::move(*error), error->message.size() + sizeof(RowError), 0};
  auto opened =
      open_row(std::move(std::get<Request>(row)), {tokenizer_, model_, rules_.cut, rules_.retry.pattern != nullptr});
  if (auto* error = std::get_if<RowError>(&opened)) return {std::move(*error), sizeof(RowError), 0};
  auto made = std::get<std::unique_ptr<OpenRow>>(std::move(opened));
  const std::size_t num_bytes = made->num_bytes();
  const std::int64_t num_runs = std::ssize(made->sequences);
  return {std::move(made), num_bytes, num_runs};
}

void RowBook::count(OpenRow& row) {
  if (std::exchange(row.is_counted, true)) return;
  ++counted_.job.rows;
  counted_.job.sequences += row.sequences.size();
  counted_.num_cut += row.is_cut ? 1 : 0;
  for (const OpenRow::FittedPrompt& prompt : row.prompts) counted_.job.prompt_tokens += prompt.ids.size();
  for (const OpenRow::Sequence& sequence : row.sequences)
    counted_.max_new_tokens += static_cast<std::uint64_t>(sequence.max_new_tokens);
}

void RowBook::add_unread(const RowError& error) { accounts_.add_unread(error, ++counted_.job.rows); }

std::optional<std::int64_t> RowBook::num_left() const {
  if (!ahead_.is_known()) return std::nullopt;
  const std::int64_t of_row =
      next_.row ? std::ssize(next_.row->sequences) - static_cast<std::int64_t>(next_.sequence) : 0;
  return ahead_.num_runs() + of_row + std::ssize(next_.again);
}

std::optional<RowRequest> RowBook::next_row() {
  ahead_.take_errors([this](const RowError& error) { add_unread(error); });
  while (!next_.again.empty()) {
    auto [row, sequence] = std::move(next_.again.front());
    next_.again.pop_front();
    if (!row->has_failed) return run(std::move(row), sequence);
  }
  if (!next_.row && !take_row()) return std::nullopt;
  const std::size_t sequence = next_.sequence++;
  SharedRow row = next_.row;
  if (next_.sequence == row->sequences.size()) next_.row = nullptr;
  return run(std::move(row), sequence);
}

/// The next one that has something to run.
bool RowBook::take_row() {
  next_ = {ahead_.next([this](const RowError& error) { add_unread(error); }), 0, std::move(next_.again)};
  if (!next_.row) return false;
  count(*next_.row);
  return true;
}

RowRequest RowBook::run(SharedRow row, std::size_t sequence) {
  const RowId id(num_pulled_++);
  RowRequest request = row->to_run(sequence);
  request.id = id;
  auto matcher = std::make_unique<StopMatcher>(row->request.stop);
  sequences_[id.value] = {std::move(row), sequence, std::make_unique<StreamingDecoder>(tokenizer_), std::move(matcher)};
  return request;
}

void RowBook::add_scores(RowId id, const TokenScores& tokens) {
  const OpenSequence& sequence = sequences_.at(id.value);
  const OpenRow& row = *sequence.row;
  if (row.has_failed) return;
  OpenRow::Sequence& one = *sequence;
  const bool is_of_prompt = row.scores_prompts && one.prompt_scores.size() + 1 < row.num_prompt_tokens(one);
  (is_of_prompt ? one.prompt_scores : one.token_scores).add(tokens);
}

bool RowBook::add_token(RowId id, std::int32_t token) {
  OpenSequence& sequence = sequences_.at(id.value);
  ++counted_.job.generated_tokens;
  if (sequence.row->has_failed) return true;
  (*sequence).token_ids.push_back(token);
  if (is_end(*sequence.row, token)) return false;  // ends the row by itself, and is no text
  return sequence.matcher->push(sequence.decoder->push(token));
}

bool RowBook::is_end(const OpenRow& row, std::int32_t token) const {
  return model_.is_eos(token) ||
         std::ranges::find(row.request.stop_token_ids, token) != row.request.stop_token_ids.end();
}

bool RowBook::finish(RowId id, FinishReason reason) {
  const OpenSequence sequence = std::move(sequences_.extract(id.value).mapped());  // what it holds ends with it
  OpenRow& row = *sequence.row;
  if (row.has_failed) return false;
  OpenRow::Sequence& one = *sequence;
  if (reason == FinishReason::not_a_number) {
    fail_numbers(row, one);
    return true;
  }
  if (!sequence.matcher->stopped()) sequence.matcher->push(sequence.decoder->finish());
  accounts_.add_sequence(static_cast<std::uint64_t>(row.num_prompt_tokens(one)), one.token_ids.size());
  one.text = sequence.matcher->text();
  one.finish_reason = reason == FinishReason::stop || sequence.matcher->stopped() ? "stop" : "length";
  if (row.is_matched && wants_another(row, one)) {
    row.begin_again(one);
    next_.again.emplace_back(sequence.row, sequence.number);
    return false;
  }
  if (--row.num_open > 0) return false;
  writer_.write(row.request, format_result(result_of(row, tokenizer_), format_));
  return true;
}

bool RowBook::wants_another(const OpenRow& row, OpenRow::Sequence& sequence) {
  const AnswerPattern::Outcome outcome = rules_.retry.pattern->search(sequence.text);
  sequence.has_matched = outcome == AnswerPattern::Outcome::matched;
  if (outcome == AnswerPattern::Outcome::gone_astray && !std::exchange(has_warned_.of_pattern, true))
    log::warn(
        fmt::format("row '{}': the pattern of --retry-if-not takes too long on its answer, which counts as one that "
                    "does not match",
                    row.request.custom_id));
  return !sequence.has_matched && sequence.num_attempts <= rules_.retry.num_retries;
}

void RowBook::fail_numbers(OpenRow& row, const OpenRow::Sequence& sequence) {
  const std::string where = row.request.prompt_is_list ? fmt::format(" to prompt[{}]", sequence.prompt) : "";
  const RowError error = number_error(
      row.request,
      fmt::format("the model gave no number for token {} of the answer{}", sequence.token_ids.size() + 1, where),
      dtype_);
  row.has_failed = true;
  accounts_.add(error, counted_.job.rows);
  if (!std::exchange(has_warned_.of_numbers, true))
    log::warn(fmt::format("row '{}': {}", error.custom_id, error.message));
}

}  // namespace flexgen

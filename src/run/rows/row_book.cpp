#include "run/rows/row_book.hpp"

#include <fmt/core.h>

#include <algorithm>
#include <utility>

#include "base/error.hpp"
#include "base/log.hpp"
#include "batch/token_chooser.hpp"
#include "run/rows/number_fault.hpp"

namespace flexgen {

void RowBook::read(RequestReader& reader) {
  while (std::optional<ParsedRow> row = reader.next()) {
    ++counts_.rows;
    if (!writer_.admit(identity_of(*row))) continue;
    if (const auto* error = std::get_if<RowError>(&*row)) add_error(*error);
    else add_request(std::move(std::get<Request>(*row)));
  }
  counts_.sequences = sequences_.size();
}

void RowBook::add_error(const RowError& error) {
  ++counts_.failed_rows;
  writer_.write(error, format_error(error), {true});
}

void RowBook::add_request(Request request) {
  auto opened = open_row(std::move(request), {tokenizer_, model_, cut_});
  if (const auto* error = std::get_if<RowError>(&opened)) add_error(*error);
  else add_row(std::get<std::unique_ptr<OpenRow>>(std::move(opened)));
}

void RowBook::add_row(const std::shared_ptr<OpenRow>& row) {
  num_cut_ += row->is_cut ? 1 : 0;
  shape_.scores = shape_.scores || row->scores_prompts;
  for (const OpenRow::FittedPrompt& prompt : row->prompts) counts_.prompt_tokens += prompt.ids.size();
  for (std::size_t i = 0; i < row->sequences.size(); ++i) {
    const OpenRow::Sequence& sequence = row->sequences[i];
    const std::int64_t length = row->num_prompt_tokens(sequence);
    shape_.add_rows(static_cast<std::int32_t>(length), sequence.max_new_tokens);
    if (row->rules) count_rules(*row->rules, length, sequence.max_new_tokens, shape_.sampling);
    max_new_tokens_ += static_cast<std::uint64_t>(sequence.max_new_tokens);
    sequences_.push_back({row, i, nullptr, nullptr});
  }
}

std::optional<RowRequest> RowBook::next_row() {
  if (num_left() == 0) return std::nullopt;
  const RowId id(num_pulled_++);
  OpenSequence& sequence = sequences_[id.index()];
  sequence.decoder = std::make_unique<StreamingDecoder>(tokenizer_);
  sequence.matcher = std::make_unique<StopMatcher>(sequence.row->request.stop);
  RowRequest request = sequence.row->to_run(sequence.number);
  request.id = id;
  return request;
}

void RowBook::add_scores(RowId id, const TokenScores& tokens) {
  const OpenSequence& sequence = sequences_[id.index()];
  const OpenRow& row = *sequence.row;
  if (row.has_failed) return;
  OpenRow::Sequence& one = *sequence;
  const bool is_of_prompt = row.scores_prompts && one.prompt_scores.size() + 1 < row.num_prompt_tokens(one);
  (is_of_prompt ? one.prompt_scores : one.token_scores).add(tokens);
}

bool RowBook::add_token(RowId id, std::int32_t token) {
  OpenSequence& sequence = sequences_[id.index()];
  ++counts_.generated_tokens;
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
  const OpenSequence sequence = std::move(sequences_[id.index()]);  // what it holds ends with it
  OpenRow& row = *sequence.row;
  if (row.has_failed) return false;
  OpenRow::Sequence& one = *sequence;
  if (reason == FinishReason::not_a_number) {
    fail_numbers(row, one);
    return true;
  }
  if (!sequence.matcher->stopped()) sequence.matcher->push(sequence.decoder->finish());
  one.text = sequence.matcher->text();
  one.finish_reason = reason == FinishReason::stop || sequence.matcher->stopped() ? "stop" : "length";
  if (--row.num_open > 0) return false;
  writer_.write(row.request, format_result(result_of(row, tokenizer_), format_));
  return true;
}

void RowBook::fail_numbers(OpenRow& row, const OpenRow::Sequence& sequence) {
  const std::string where = row.request.prompt_is_list ? fmt::format(" to prompt[{}]", sequence.prompt) : "";
  const RowError error = number_error(
      row.request,
      fmt::format("the model gave no number for token {} of the answer{}", sequence.token_ids.size() + 1, where),
      dtype_);
  row.has_failed = true;
  add_error(error);
  if (!std::exchange(has_warned_, true)) log::warn(fmt::format("row '{}': {}", error.custom_id, error.message));
}

}  // namespace flexgen

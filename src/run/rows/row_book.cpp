#include "run/rows/row_book.hpp"

#include <fmt/core.h>

#include <algorithm>
#include <utility>

#include "base/error.hpp"
#include "base/log.hpp"
#include "run/model/model_text.hpp"
#include "run/rows/number_fault.hpp"

namespace flexgen {

void RowBook::read(RequestReader& reader) {
  while (const std::optional<ParsedRow> row = reader.next()) {
    ++counts_.rows;
    if (const auto* error = std::get_if<RowError>(&*row)) add_error(*error);
    else add_request(std::get<Request>(*row));
  }
  counts_.sequences = sequences_.size();
}

void RowBook::add_error(const RowError& error) {
  ++counts_.failed_rows;
  writer_.write(format_error(error));
}

// The row's prompts as they will run. Throws UserError (rows_failed) when one cannot.
std::vector<RowBook::FittedPrompt> RowBook::fit_prompts(const Request& request) {
  const PromptFit fit{model_.max_positions, cut_};
  std::vector<FittedPrompt> fitted;
  bool is_cut = false;
  for (const Prompt& prompt : request.prompts) {
    FittedPrompt& one = fitted.emplace_back();
    one.ids = prompt_ids(tokenizer_, model_, prompt);
    const std::size_t length = one.ids.size();
    const std::int64_t num_begin_tokens = std::holds_alternative<std::string>(prompt) ? tokenizer_.num_begin_ids() : 0;
    one.max_new_tokens = fit.apply(one.ids, request.max_tokens, !request.names_max_tokens, num_begin_tokens);
    is_cut = is_cut || one.ids.size() < length;
  }
  num_cut_ += is_cut ? 1 : 0;
  return fitted;
}

void RowBook::add_request(const Request& request) {
  std::vector<FittedPrompt> prompts;
  try {
    if (tokenizer_.is_none() && !request.stop.empty())
      throw UserError(ExitCode::rows_failed, "stop strings cannot be looked for",
                      "the model's folder has no tokenizer files, so that results have no text", "Leave 'stop' out");
    prompts = fit_prompts(request);
  } catch (const UserError& error) {
    add_error({static_cast<const RowIdentity&>(request), "invalid_prompt", error.what()});
    return;
  }
  auto row = std::make_shared<OpenRow>();
  row->result = result_for(request);
  row->result.choices.resize(prompts.size());
  row->stop = request.stop;
  row->num_open = prompts.size();
  for (std::size_t i = 0; i < prompts.size(); ++i) {
    const std::int32_t num_new = prompts[i].max_new_tokens;
    const auto length = static_cast<std::int32_t>(prompts[i].ids.size());
    shape_.add_rows(length, num_new);
    max_new_tokens_ += static_cast<std::uint64_t>(num_new);
    counts_.prompt_tokens += prompts[i].ids.size();
    row->result.choices[i].index = static_cast<int>(i);
    row->result.choices[i].prompt_token_ids = std::move(prompts[i].ids);
    sequences_.push_back({row, i, num_new, nullptr, nullptr});
  }
}

std::optional<RowRequest> RowBook::next_row() {
  if (num_left() == 0) return std::nullopt;
  const RowId id(num_pulled_++);
  OpenSequence& sequence = sequences_[id.index()];
  sequence.decoder = std::make_unique<StreamingDecoder>(tokenizer_);
  sequence.matcher = std::make_unique<StopMatcher>(sequence.row->stop);
  RowRequest request;
  request.id = id;
  request.max_new_tokens = sequence.max_new_tokens;
  request.prompt = sequence.row->result.choices[sequence.choice].prompt_token_ids;
  return request;
}

bool RowBook::add_token(RowId id, std::int32_t token) {
  OpenSequence& sequence = sequences_[id.index()];
  ++counts_.generated_tokens;
  if (sequence.row->has_failed) return true;
  sequence.row->result.choices[sequence.choice].token_ids.push_back(token);
  if (model_.is_eos(token)) return false;  // ends the row by itself, and is no text
  return sequence.matcher->push(sequence.decoder->push(token));
}

bool RowBook::finish(RowId id, FinishReason reason) {
  const OpenSequence sequence = std::move(sequences_[id.index()]);  // what it holds ends with it
  OpenRow& row = *sequence.row;
  if (row.has_failed) return false;
  Choice& choice = row.result.choices[sequence.choice];
  if (reason == FinishReason::not_a_number) {
    fail_numbers(row, choice);
    return true;
  }
  finish_choice(sequence, choice, reason);
  if (--row.num_open > 0) return false;
  row.result.usage = count_usage(row.result.choices);
  writer_.write(format_result(row.result, format_));
  return true;
}

void RowBook::finish_choice(const OpenSequence& sequence, Choice& choice, FinishReason reason) {
  if (!sequence.matcher->stopped()) sequence.matcher->push(sequence.decoder->finish());
  choice.text = sequence.matcher->text();
  choice.finish_reason = reason == FinishReason::stop || sequence.matcher->stopped() ? "stop" : "length";
}

void RowBook::fail_numbers(OpenRow& row, const Choice& choice) {
  const std::string where = row.result.prompt_is_list ? fmt::format(" to prompt[{}]", choice.index) : "";
  const RowError error = number_error(
      row.result,
      fmt::format("the model gave no number for token {} of the answer{}", choice.token_ids.size() + 1, where), dtype_);
  row.has_failed = true;
  add_error(error);
  if (!std::exchange(has_warned_, true)) log::warn(fmt::format("row '{}': {}", error.custom_id, error.message));
}

}  // namespace flexgen

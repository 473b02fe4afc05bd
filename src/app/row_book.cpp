#include "app/row_book.hpp"

#include <fmt/format.h>

#include <algorithm>

#include "app/model_text.hpp"
#include "base/error.hpp"

namespace flexgen {

void RowBook::read(RequestReader& reader) {
  while (const std::optional<ParsedRow> row = reader.next()) {
    ++num_rows_;
    if (const auto* error = std::get_if<RowError>(&*row)) add_error(*error);
    else add_request(std::get<Request>(*row));
  }
  shape_.num_rows = static_cast<std::int64_t>(rows_.size());
}

void RowBook::add_error(const RowError& error) {
  ++num_failed_;
  writer_.write(format_error(error));
}

void RowBook::check_length(const std::vector<std::int32_t>& ids, int max_tokens) const {
  const std::size_t wanted = ids.size() + static_cast<std::size_t>(max_tokens);
  if (wanted > static_cast<std::size_t>(model_.max_positions))
    throw UserError(ExitCode::rows_failed, "the row is too long for the model",
                    fmt::format("{} prompt tokens and max_tokens {} need {} positions, the model has {}", ids.size(),
                                max_tokens, wanted, model_.max_positions),
                    "Shorten the prompt or lower max_tokens");
}

void RowBook::add_request(const Request& request) {
  std::vector<std::vector<std::int32_t>> prompts;
  try {
    if (tokenizer_.is_none() && !request.stop.empty())
      throw UserError(ExitCode::rows_failed, "stop strings cannot be looked for",
                      "the model's folder has no tokenizer files, so that results have no text", "Leave 'stop' out");
    for (const Prompt& prompt : request.prompts) {
      prompts.push_back(prompt_ids(tokenizer_, model_, prompt));
      check_length(prompts.back(), request.max_tokens);
    }
  } catch (const UserError& error) {
    add_error({static_cast<const RowIdentity&>(request), "invalid_prompt", error.what()});
    return;
  }
  auto row = std::make_shared<OpenRow>();
  row->result = result_for(request);
  row->result.choices.resize(prompts.size());
  row->num_open = prompts.size();
  for (std::size_t i = 0; i < prompts.size(); ++i) {
    const RowId id(static_cast<std::int64_t>(sequences_.size()));
    const auto length = static_cast<std::int32_t>(prompts[i].size());
    shape_.max_prompt_tokens = std::max(shape_.max_prompt_tokens, length);
    shape_.max_new_tokens = std::max(shape_.max_new_tokens, request.max_tokens);
    shape_.max_row_tokens = std::max(shape_.max_row_tokens, length + request.max_tokens);
    max_new_tokens_ += static_cast<std::uint64_t>(request.max_tokens);
    num_prompt_tokens_ += prompts[i].size();
    row->result.choices[i].index = static_cast<int>(i);
    row->result.choices[i].prompt_token_ids = prompts[i];
    rows_.push_back({id, std::move(prompts[i]), request.max_tokens, true});
    sequences_.push_back(
        {row, i, std::make_unique<StreamingDecoder>(tokenizer_), std::make_unique<StopMatcher>(request.stop)});
  }
}

bool RowBook::add_token(RowId id, std::int32_t token) {
  Sequence& sequence = sequences_[id.index()];
  ++num_generated_tokens_;
  sequence.row->result.choices[sequence.choice].token_ids.push_back(token);
  if (model_.is_eos(token)) return false;  // ends the row by itself, and is no text
  return sequence.matcher->push(sequence.decoder->push(token));
}

bool RowBook::finish(RowId id, FinishReason reason) {
  Sequence& sequence = sequences_[id.index()];
  if (!sequence.matcher->stopped()) sequence.matcher->push(sequence.decoder->finish());
  const std::shared_ptr<OpenRow> row = std::move(sequence.row);
  Choice& choice = row->result.choices[sequence.choice];
  choice.text = sequence.matcher->text();
  choice.finish_reason = reason == FinishReason::stop || sequence.matcher->stopped() ? "stop" : "length";
  sequence.decoder.reset();
  sequence.matcher.reset();
  if (--row->num_open > 0) return false;
  row->result.usage = count_usage(row->result.choices);
  writer_.write(format_result(row->result, format_));
  return true;
}

}  // namespace flexgen

// What the sequences of a row come to: its result (run/rows/open_row.hpp).
#include <algorithm>
#include <numeric>
#include <span>

#include "run/rows/open_row.hpp"

namespace flexgen {
namespace {

class ResultMaker {
 public:
  ResultMaker(const OpenRow& row, const Tokenizer& tokenizer) : row_(row), tokenizer_(tokenizer) {}

  /// Of the sequences of one prompt.
  void add(std::size_t prompt, std::vector<Choice>& choices) const {
    const std::size_t count = row_.sequences_per_prompt();
    const auto all = std::span(row_.sequences).subspan(prompt * count, count);
    if (!row_.request.choices.empty()) {
      choices.push_back(chosen_of(all));
      return;
    }
    for (const std::size_t i : best_of(all)) choices.push_back(answer_of(all[i]));
  }

 private:
  const OpenRow::FittedPrompt& prompt_of(const OpenRow::Sequence& sequence) const {
    return row_.prompts[sequence.prompt];
  }

  /// The row's answers, the likeliest first where they are some of several, else in their order.
  std::vector<std::size_t> best_of(std::span<const OpenRow::Sequence> all) const {
    std::vector<std::size_t> order(all.size());
    std::iota(order.begin(), order.end(), std::size_t{0});
    if (row_.request.best_of == row_.request.n) return order;
    std::ranges::stable_sort(order, std::ranges::greater(), [&](std::size_t i) {
      return all[i].token_scores.sum() / static_cast<double>(std::max<std::int64_t>(1, all[i].token_scores.size()));
    });
    order.resize(static_cast<std::size_t>(row_.request.n));
    return order;
  }

  Choice answer_of(const OpenRow::Sequence& sequence) const {
    const Request& request = row_.request;
    Choice choice;
    choice.text = prompt_of(sequence).text + sequence.text;
    choice.finish_reason = sequence.finish_reason;
    choice.token_ids = sequence.token_ids;
    if (row_.is_matched) choice.attempts = {sequence.num_attempts, sequence.has_matched};
    add_prompt(sequence, choice);
    const std::int32_t num_top = request.sampling.num_logprobs;
    if (num_top < 0) return choice;
    std::vector<ChoiceToken>& entries = choice.logprobs.emplace();
    if (request.echo) entries = prompt_entries(sequence, num_top);
    for (std::int64_t i = 0; i < std::ssize(sequence.token_ids); ++i)
      entries.push_back(
          sequence.token_scores.entry(i, sequence.token_ids[static_cast<std::size_t>(i)], num_top, tokenizer_));
    return choice;
  }

  Choice chosen_of(std::span<const OpenRow::Sequence> all) const {
    const Request& request = row_.request;
    Choice choice;
    const std::int64_t first = std::ssize(prompt_of(all.front()).ids) - 1;  // of its scores that are the choice's
    for (const OpenRow::Sequence& one : all) choice.choice_logprobs.push_back(one.prompt_scores.sum(first));
    const auto best =
        static_cast<std::size_t>(std::ranges::max_element(choice.choice_logprobs) - choice.choice_logprobs.begin());
    const OpenRow::Sequence& sequence = all[best];
    choice.text = request.choices[best];
    choice.finish_reason = "stop";
    choice.token_ids = sequence.choice;
    add_prompt(sequence, choice);
    if (request.sampling.num_logprobs < 0) return choice;
    std::vector<ChoiceToken>& entries = choice.logprobs.emplace();
    for (std::int64_t i = 0; i < std::ssize(sequence.choice); ++i)
      entries.push_back(sequence.prompt_scores.entry(first + i, sequence.choice[static_cast<std::size_t>(i)],
                                                     request.sampling.num_logprobs, tokenizer_));
    return choice;
  }

  void add_prompt(const OpenRow::Sequence& sequence, Choice& choice) const {
    choice.prompt_token_ids = prompt_of(sequence).ids;
    if (row_.request.prompt_logprobs >= 0)
      choice.prompt_logprobs = prompt_entries(sequence, row_.request.prompt_logprobs);
  }

  /// Of what the row gave as prompt: what the tokenizer put in front is none of it.
  std::vector<ChoiceToken> prompt_entries(const OpenRow::Sequence& sequence, std::int32_t num_top) const {
    const OpenRow::FittedPrompt& prompt = prompt_of(sequence);
    std::vector<ChoiceToken> entries;
    for (std::int64_t i = prompt.num_begin_tokens; i < std::ssize(prompt.ids); ++i) {
      const std::int32_t token = prompt.ids[static_cast<std::size_t>(i)];
      if (i == 0) entries.push_back({tokenizer_.token_bytes(token)});
      else entries.push_back(sequence.prompt_scores.entry(i - 1, token, num_top, tokenizer_));
    }
    return entries;
  }

  const OpenRow& row_;
  const Tokenizer& tokenizer_;
};

}  // namespace

Result result_of(const OpenRow& row, const Tokenizer& tokenizer) {
  Result result = result_for(row.request);
  const ResultMaker maker(row, tokenizer);
  for (std::size_t prompt = 0; prompt < row.prompts.size(); ++prompt) {
    maker.add(prompt, result.choices);
    result.usage.prompt_tokens += row.prompts[prompt].ids.size();
  }
  for (std::size_t i = 0; i < result.choices.size(); ++i) result.choices[i].index = static_cast<int>(i);
  // Sequences that were not chosen, and attempts that did not match, have been generated all the same.
  for (const OpenRow::Sequence& sequence : row.sequences)
    result.usage.completion_tokens += sequence.token_ids.size() + sequence.num_dropped_tokens;
  if (!row.request.choices.empty())
    for (const Choice& choice : result.choices) result.usage.completion_tokens += choice.token_ids.size();
  return result;
}

}  // namespace flexgen

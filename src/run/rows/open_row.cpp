#include "run/rows/open_row.hpp"

#include <fmt/core.h>

#include <algorithm>
#include <utility>

#include "base/error.hpp"
#include "run/model/model_text.hpp"
#include "run/rows/retry_rule.hpp"

namespace flexgen {
namespace {

using Ids = std::vector<std::int32_t>;

bool wants_text(const Request& request) {
  return !request.stop.empty() || request.echo || request.sampling.num_logprobs >= 0 || request.prompt_logprobs >= 0 ||
         !request.choices.empty();
}

void require_text(const Request& request, const Tokenizer& tokenizer) {
  if (tokenizer.is_none() && wants_text(request))
    throw UserError(ExitCode::rows_failed, "stop strings, echo, log-probabilities and choices cannot be given",
                    "the model's folder has no tokenizer files, so that results have no text", "Leave them out");
}

/// Why a field that names tokens cannot be honoured; empty where all are the model's.
std::string foreign_token(const Request& request, std::int32_t vocab) {
  const auto complain = [vocab](const char* field, std::int32_t token) {
    return fmt::format("field '{}' names token {}: the model's vocabulary has {} entries. Correct the row", field,
                       token, vocab);
  };
  for (const TokenBias& one : request.sampling.logit_bias)
    if (one.token >= vocab) return complain("logit_bias", one.token);
  for (const std::int32_t token : request.stop_token_ids)
    if (token >= vocab) return complain("stop_token_ids", token);
  return "";
}

bool joins(const Ids& prompt, const Ids& joined) {
  return joined.size() > prompt.size() && std::equal(prompt.begin(), prompt.end(), joined.begin());
}

/// A choice's ids behind a prompt: as the tokenizer cuts both together, where it cuts the prompt as it does alone.
Ids choice_ids(const Tokenizer& tokenizer, const Prompt& prompt, const Ids& ids, const std::string& choice) {
  if (const auto* text = std::get_if<std::string>(&prompt)) {
    const Ids joined = tokenizer.encode(*text + choice);
    if (joins(ids, joined)) return {joined.begin() + std::ssize(ids), joined.end()};
  }
  Ids own = tokenizer.encode(choice, false);
  if (own.empty())
    throw UserError(ExitCode::rows_failed, "a choice has no tokens", "the tokenizer makes none of it", "Leave it out");
  return own;
}

class RowOpener {
 public:
  RowOpener(OpenRow& row, const RowRules& rules) : row_(row), rules_(rules) {}

  void add(const Prompt& prompt) {
    OpenRow::FittedPrompt& fitted = row_.prompts.emplace_back();
    fitted.ids = prompt_ids(rules_.tokenizer, rules_.model, prompt);
    const auto* const text = std::get_if<std::string>(&prompt);
    if (text) fitted.num_begin_tokens = rules_.tokenizer.num_begin_ids();
    const std::size_t length = fitted.ids.size();
    if (row_.request.choices.empty()) add_answers(fitted);
    else add_choices(prompt, fitted);
    const bool is_cut = fitted.ids.size() < length;
    row_.is_cut = row_.is_cut || is_cut;
    fitted.num_begin_tokens = std::min(fitted.num_begin_tokens, std::ssize(fitted.ids));
    if (!row_.request.echo) return;
    const auto own = std::span(fitted.ids).subspan(static_cast<std::size_t>(fitted.num_begin_tokens));
    fitted.text = text && !is_cut ? *text : rules_.tokenizer.decode(own, false);
  }

 private:
  void add_answers(OpenRow::FittedPrompt& prompt) {
    const Request& request = row_.request;
    const PromptFit fit{rules_.model.max_positions, rules_.cut};
    // A prompt that nothing follows takes the positions of one that a token follows.
    const std::int32_t fitted =
        fit.apply(prompt.ids, std::max(1, request.max_tokens), !request.names_max_tokens, prompt.num_begin_tokens);
    OpenRow::Sequence sequence;
    sequence.prompt = row_.prompts.size() - 1;
    sequence.max_new_tokens = std::min(request.max_tokens, fitted);
    row_.sequences.insert(row_.sequences.end(), static_cast<std::size_t>(request.best_of), sequence);
  }

  void add_choices(const Prompt& prompt, OpenRow::FittedPrompt& fitted) {
    std::size_t longest = 0;
    for (const std::string& text : row_.request.choices) {
      OpenRow::Sequence& sequence = row_.sequences.emplace_back();
      sequence.prompt = row_.prompts.size() - 1;
      sequence.choice = choice_ids(rules_.tokenizer, prompt, fitted.ids, text);
      longest = std::max(longest, sequence.choice.size());
    }
    const auto num_positions = static_cast<std::size_t>(rules_.model.max_positions);
    const bool is_too_long = fitted.ids.size() + longest > num_positions;
    if (longest >= num_positions || (is_too_long && rules_.cut == PromptCut::none))
      throw UserError(ExitCode::rows_failed, "the row is too long for the model",
                      fmt::format("the prompt has {} tokens and the longest of 'choices' {}, the model {} positions",
                                  fitted.ids.size(), longest, num_positions),
                      "Shorten them, or have the prompt cut with --truncate-prompt");
    const PromptFit fit{rules_.model.max_positions, rules_.cut};
    fit.apply(fitted.ids, static_cast<std::int32_t>(longest) + 1, false, fitted.num_begin_tokens);
  }

  OpenRow& row_;
  const RowRules& rules_;
};

/// Null where the sequences need none.
std::shared_ptr<const TokenRules> token_rules(const Request& request, const ModelSpec& model) {
  TokenRules rules;
  const bool has_choices = !request.choices.empty();
  if (!has_choices) rules.sampling = request.sampling;
  if (request.best_of > request.n) rules.sampling.num_logprobs = std::max(0, rules.sampling.num_logprobs);
  const std::int32_t echoed = request.echo || has_choices ? request.sampling.num_logprobs : -1;
  rules.num_prompt_top = std::max({0, echoed, request.prompt_logprobs});
  if (!request.ignore_eos) rules.end_tokens = model.eos_tokens;
  rules.end_tokens.insert(rules.end_tokens.end(), request.stop_token_ids.begin(), request.stop_token_ids.end());
  if (rules.sampling.is_plain_greedy() && rules.num_prompt_top == 0) return nullptr;
  return std::make_shared<const TokenRules>(std::move(rules));
}

/// Whether its answers can differ from one attempt to the next.
bool can_be_retried(const Request& request) {
  if (!request.choices.empty() || request.max_tokens == 0) return false;
  if (request.sampling.temperature == 0)
    throw UserError(ExitCode::rows_failed, "an answer that does not match cannot be asked for again",
                    "at temperature 0 it would be the same", "Give the row a temperature, or leave out --retry-if-not");
  return true;
}

std::unique_ptr<OpenRow> make_row(Request request, const RowRules& rules) {
  require_text(request, rules.tokenizer);
  auto row = std::make_unique<OpenRow>();
  row->is_matched = rules.wants_match && can_be_retried(request);
  const std::vector<Prompt> prompts = std::exchange(request.prompts, {});
  row->request = std::move(request);
  const Request& asked = row->request;
  row->scores_prompts = asked.max_tokens == 0 || asked.prompt_logprobs >= 0 || !asked.choices.empty() ||
                        (asked.echo && asked.sampling.num_logprobs >= 0);
  row->rules = token_rules(asked, rules.model);
  RowOpener opener(*row, rules);
  for (const Prompt& prompt : prompts) opener.add(prompt);
  row->num_open = row->sequences.size();
  const std::int32_t num_top = row->rules ? std::max(0, row->rules->sampling.num_logprobs) : 0;
  const std::int32_t num_prompt_top = row->rules ? row->rules->num_prompt_top : 0;
  for (OpenRow::Sequence& sequence : row->sequences) {
    sequence.prompt_scores = TokenRecord(num_prompt_top);
    sequence.token_scores = TokenRecord(num_top);
  }
  return row;
}

}  // namespace

std::size_t OpenRow::num_bytes() const {
  std::size_t bytes = sizeof(OpenRow) + sequences.capacity() * sizeof(Sequence) + request.kept_fields.size();
  for (const FittedPrompt& prompt : prompts)
    bytes += sizeof(FittedPrompt) + prompt.ids.capacity() * sizeof(std::int32_t) + prompt.text.size();
  for (const Sequence& sequence : sequences) bytes += sequence.choice.capacity() * sizeof(std::int32_t);
  return bytes;
}

void OpenRow::begin_again(Sequence& sequence) {
  ++sequence.num_attempts;
  sequence.num_dropped_tokens += sequence.token_ids.size();
  sequence.token_ids.clear();
  sequence.text.clear();
  sequence.prompt_scores.clear();
  sequence.token_scores.clear();
}

RowRequest OpenRow::to_run(std::size_t sequence) const {
  const Sequence& one = sequences[sequence];
  RowRequest run;
  run.prompt.reserve(static_cast<std::size_t>(num_prompt_tokens(one)));
  run.prompt = prompts[one.prompt].ids;
  run.prompt.insert(run.prompt.end(), one.choice.begin(), one.choice.end());
  run.max_new_tokens = one.max_new_tokens;
  run.stop_at_eos = !request.ignore_eos;
  run.score_prompt = scores_prompts;
  run.stop_tokens = request.stop_token_ids;
  run.rules = rules;
  if (one.num_attempts > 1) {
    TokenRules again = *rules;
    again.sampling.seed = attempt_seed(rules->sampling.seed, one.num_attempts - 1);
    run.rules = std::make_shared<const TokenRules>(std::move(again));
  }
  run.answer = static_cast<std::uint32_t>(sequence);
  return run;
}

std::variant<std::unique_ptr<OpenRow>, RowError> open_row(Request request, const RowRules& rules) {
  RowIdentity identity = request;
  if (std::string problem = foreign_token(request, rules.model.vocab); !problem.empty())
    return RowError{std::move(identity), "invalid_field", std::move(problem)};
  try {
    return make_row(std::move(request), rules);
  } catch (const UserError& error) {
    return RowError{std::move(identity), "invalid_prompt", error.what()};
  }
}

}  // namespace flexgen

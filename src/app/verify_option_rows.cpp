#include "app/verify_option_rows.hpp"

#include <fmt/core.h>

#include <string>

#include "app/option_values.hpp"
#include "base/error.hpp"

namespace flexgen {
namespace {

OptionValue truncation_into(PromptCut& to) {
  return into::word("error", [&to](const std::string&, const std::string& word) { to = parse_prompt_cut(word); });
}

void refuse_negative(const std::string& option, const std::string& word, double value) {
  if (value < 0) throw UserError(ExitCode::usage, fmt::format("--{} {} is negative", option, word), "");
}

OptionValue seed_into(std::optional<std::uint64_t>& to) {
  return into::word("", [&to](const std::string& option, const std::string& word) {
    const std::int64_t seed = whole_number(option, word);
    refuse_negative(option, word, static_cast<double>(seed));
    to = static_cast<std::uint64_t>(seed);
  });
}

OptionValue increase_into(std::optional<double>& to) {
  return into::word("", [&to](const std::string& option, const std::string& word) {
    const double percent = real_number(option, word);
    refuse_negative(option, word, percent);
    to = percent;
  });
}

}  // namespace

std::vector<OptionRow> verify_rows(Options& o) {
  return {
      {"model", "DIR", into::text(o.model.name), "Hugging Face model directory"},
      {"input", "FILE...", into::files(o.rows.inputs.paths), "rows of the job, as generate reads them"},
      {"rows", "N", into::count(o.verify.num_rows), "so many of them: the first that can run"},
      {"seed", "N", seed_into(o.verify.seed), "draw them from the whole input instead"},
      {"max-perplexity-increase", "P", increase_into(o.verify.max_perplexity_increase),
       "fail where the perplexity rises by more than P percent; default: by however much"},
      {"gen-len", "N", into::positive(o.generate.gen_len), "tokens to generate where a row has no max_tokens"},
      {"truncate-prompt", "SIDE", truncation_into(o.generate.truncate_prompt),
       "left | right: where a prompt that does not fit is cut; error: its row is left out"},
      {"path", "DIR", into::text(o.model.path), "folder in which model directories lie"},
  };
}

void check_verify(const Options& o) {
  if (o.rows.inputs.paths.empty())
    throw UserError(ExitCode::usage, "--input is missing", "", "See flexgen-dist verify --help");
  if (!o.model.save_compressed.empty())
    throw UserError(ExitCode::usage, "--save-compressed cannot be honoured", "verify writes no model",
                    "Leave it out; generate takes it");
  if (o.verify.max_perplexity_increase && o.policy.attn_sparsity < 1)
    throw UserError(ExitCode::usage, "--max-perplexity-increase cannot judge --attn-sparsity",
                    "texts that are scored have no sparse attention, tokens that are generated have it",
                    "Leave one out");
}

}  // namespace flexgen

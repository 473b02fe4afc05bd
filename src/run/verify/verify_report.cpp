#include "run/verify/verify_report.hpp"

#include <fmt/core.h>

#include <algorithm>
#include <cmath>

#include "base/json_fields.hpp"
#include "job/figure_file.hpp"

namespace flexgen {
namespace {

constexpr std::size_t most_shown = 8;  // differences; the report has all

std::string token_name(std::int64_t token) { return token < 0 ? "the end" : fmt::format("token {}", token); }

std::string difference_text(const TokenDifference& difference) {
  const std::string margin = std::isfinite(difference.margin)
                                 ? fmt::format(", which the reference prefers by {:.2g}{}", difference.margin,
                                               difference.is_tie ? ": a tie" : "")
                                 : "";
  return fmt::format("{:12}row '{}', place {}: {} instead of {}{}\n", "", difference.row, difference.position,
                     token_name(difference.policy_token), token_name(difference.reference_token), margin);
}

std::string agreement_text(const TokenAgreement& agreement) {
  if (agreement.answers == 0) return fmt::format("{:<12}none are compared\n", "tokens");
  std::string text = fmt::format("{:<12}{} of {} answers equal", "tokens", agreement.equal_answers, agreement.answers);
  if (!agreement.differences.empty())
    text += fmt::format("; {} of {} tokens up to the first difference of each, {} of {} differences ties",
                        agreement.equal_tokens, agreement.tokens, agreement.ties, agreement.differences.size());
  text += '\n';
  const std::size_t num_shown = std::min(most_shown, agreement.differences.size());
  for (std::size_t i = 0; i < num_shown; ++i) text += difference_text(agreement.differences[i]);
  if (agreement.differences.size() > num_shown)
    text += fmt::format("{:12}and {} others\n", "", agreement.differences.size() - num_shown);
  return text;
}

std::string score_text(const char* name, const ScoreAgreement& scores) {
  if (scores.tokens == 0) return "";
  return fmt::format("{:<12}{:>8}{:>12.6g}{:>12.6g}{:>+10.2f} %{:>11.2g}{:>11.2g}{:>12.2f} %\n", name, scores.tokens,
                     scores.reference_perplexity, scores.policy_perplexity, scores.perplexity_increase(),
                     scores.mean_difference, scores.largest_difference, 100 * scores.other_choices);
}

std::string verdict_text(const VerifyReport& report) {
  if (!report.passes) return "FAIL";
  return report.closeness == closeness_name(Closeness::lossy) && !report.max_perplexity_increase
             ? "pass: what compression and sparse attention change is told, not judged"
             : "pass";
}

}  // namespace

std::string verify_text(const VerifyReport& report) {
  std::string text = fmt::format("{:<12}{}, {} rows in {} sequences, {} rank{}\n", "verify", report.model, report.rows,
                                 report.sequences, report.ranks, report.ranks == 1 ? "" : "s");
  text += fmt::format("{:<12}{}\n{:<12}{}\n", "policy", report.policy.flags, "reference", report.reference.flags);
  text += agreement_text(report.comparison.agreement);
  text += fmt::format("{:<12}{:>8}{:>12}{:>12}{:>12}{:>11}{:>11}{:>14}\n", "perplexity", "tokens", "reference",
                      "policy", "change", "mean diff", "largest", "other choice");
  text += score_text("  prompts", report.comparison.prompts);
  text += score_text("  answers", report.comparison.answers);
  text += score_text("  all", report.comparison.all);
  for (const std::string& note : report.notes) text += fmt::format("{:12}{}\n", "", note);
  text += fmt::format("{:<12}{}\n", "verdict", verdict_text(report));
  for (const std::string& reason : report.reasons) text += fmt::format("{:12}{}\n", "", reason);
  return text;
}

void write_verify_report(const VerifyReport& report, const std::string& path) {
  write_figure_file(path, {to_json_text(report), "\n"}, FigureKind::verification, "--report");
}

}  // namespace flexgen

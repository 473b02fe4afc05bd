#include "job/page/report_page.hpp"

#include <fmt/core.h>

#include <algorithm>

#include "job/figure_file.hpp"
#include "job/page/html_text.hpp"
#include "job/page/page_sections.hpp"
#include "job/page/page_style.hpp"

namespace flexgen {
namespace {

/// @param note  below the figure; may be empty
std::string tile(std::string_view name, std::string_view figure, std::string_view note) {
  const std::string small = note.empty() ? "" : fmt::format("<small>{}</small>", html_escaped(note));
  return fmt::format("<div><dt>{}</dt><dd>{}{}</dd></div>\n", html_escaped(name), html_escaped(figure), small);
}

std::string rows_note(const JobReport& job) {
  if (job.failed_rows == 0) return job.rows == 1 ? "it is ok" : "all ok";
  return fmt::format("{} ok, {} failed", grouped(job.rows - job.failed_rows), grouped(job.failed_rows));
}

std::string tiles(const Report& report) {
  const JobReport& job = report.job;
  const std::uint64_t made = job.generated_tokens + job.scored_tokens;
  const char* verb = report.score ? "scored" : "generated";
  std::string text = tile("Rows", grouped(job.rows), rows_note(job));
  text += tile(fmt::format("Tokens {}", verb), grouped(made), grouped(job.prompt_tokens) + " of prompts");
  text += tile("Throughput", rate_number(report.throughput.tokens_per_second), fmt::format("tokens {} a second", verb));
  if (report.roofline)
    text += tile("Of the roofline", percent_text(report.roofline->fraction),
                 "which " + report.roofline->binding_resource + " binds");
  text += tile("Time", duration_text(report.timing.total_seconds),
               "and " + duration_text(report.timing.load_seconds) + " to load");
  if (report.score)
    text += tile("Perplexity", rate_number(report.score->perplexity()), "over all texts that were scored");
  if (const std::uint64_t written = ssd_bytes_written(report.ranks); written > 0)
    text += tile("Written to SSD", size_text(written), "by the ssd tier");
  double joules = 0;
  for (const EnergyReport& device : sum_energy(report.ranks)) joules += device.joules;
  if (joules > 0)
    text += tile("Energy", fmt::format("{:.4g} kJ", joules * 1e-3),
                 made > 0 ? fmt::format("{:.3g} J a token", joules / static_cast<double>(made)) : "");
  return "<dl class=\"tiles\">\n" + text + "</dl>\n";
}

std::string header(const Report& report) {
  const ModelReport& model = report.model;
  return fmt::format(
      "<header>\n<h1>{} with {}</h1>\n<p class=\"dim\">{} layers of {}, {} parameters, {}; {} rank{}; "
      "{}</p>\n{}</header>\n",
      html_escaped(report.command), html_escaped(model.name), model.layers, model.hidden, grouped(model.parameters),
      html_escaped(report.policy.dtype), report.ranks.size(), report.ranks.size() == 1 ? "" : "s",
      html_escaped(report.program + " " + report.version), tiles(report));
}

}  // namespace

std::string report_page(const Report& report) {
  std::string page(page_marker);
  page += "<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n";
  page += "<meta name=\"viewport\" content=\"width=device-width,initial-scale=1\">\n";
  // Whatever the rows hold: nothing is loaded and nothing runs.
  page += "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\">\n";
  page += fmt::format("<title>{} with {}: report</title>\n<style>{}</style>\n</head>\n<body>\n",
                      html_escaped(report.command), html_escaped(report.model.name), page_style);
  page += header(report) + "<main>\n";
  for (const auto section :
       {time_section, roofline_section, memory_section, rows_section, policy_section, ranks_section})
    page += section(report);
  page += fmt::format("</main>\n<footer>{} {}. The same figures for programs: --report FILE.json.</footer>\n",
                      html_escaped(report.program), html_escaped(report.version));
  return page + "</body>\n</html>\n";
}

void write_report_page(const Report& report, const std::string& path) {
  write_figure_file(path, {report_page(report)}, FigureKind::page, "--report");
}

}  // namespace flexgen

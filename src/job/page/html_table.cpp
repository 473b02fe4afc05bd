#include "job/page/html_table.hpp"

#include <fmt/core.h>

#include "job/page/html_text.hpp"

namespace flexgen {

HtmlTable::HtmlTable(std::string_view caption, const std::vector<std::string>& heads)
    : caption_(html_escaped(caption)) {
  for (const std::string& head : heads) head_ += fmt::format("<th scope=\"col\">{}</th>", html_escaped(head));
}

void HtmlTable::add(const std::vector<std::string>& cells, Mark mark) {
  rows_ += mark == Mark::binds ? "<tr class=\"binds\">" : "<tr>";
  for (const std::string& cell : cells) rows_ += fmt::format("<td>{}</td>", html_escaped(cell));
  rows_ += "</tr>\n";
}

// Who has no mouse scrolls by keys: it can be focused.
std::string HtmlTable::html() const {
  return fmt::format(
      "<div class=\"scroll\" tabindex=\"0\" role=\"region\" aria-label=\"{}\"><table>\n"
      "<thead><tr>{}</tr></thead>\n<tbody>\n{}</tbody></table></div>\n",
      caption_, head_, rows_);
}

}  // namespace flexgen

// The report of a job as one page for people: `--report FILE.html`. Nothing in it is loaded from anywhere, and no
// script runs; it reads in light and dark, on paper, and aloud.
//
// Pure but for write_report_page, which touches only its file.
#pragma once

#include <string>

#include "job/report.hpp"

namespace flexgen {

/// HTML text, UTF-8; begins with page_marker.
std::string report_page(const Report& report);

/// As write_figure_file. Throws UserError (file).
void write_report_page(const Report& report, const std::string& path);

}  // namespace flexgen

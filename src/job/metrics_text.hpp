// A job's figures as Prometheus reads them.
//
// Pure. Source: Prometheus text exposition format 0.0.4; names as its practices have them: seconds and bytes, counters
// end in _total.
#pragma once

#include <string>

#include "job/live_figures.hpp"

namespace flexgen {

/// The value of Content-Type.
inline constexpr const char* metrics_content_type = "text/plain; version=0.0.4; charset=utf-8";

/// What is not known (a total, an eta) has no line.
std::string metrics_text(const LiveFigures& figures);

}  // namespace flexgen

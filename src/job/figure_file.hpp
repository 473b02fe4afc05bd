// Files of figures: reports, traces, hardware profiles, what doctor and verify found. They are written when a job ends,
// and may replace an older file of their own kind, but nothing else.
//
// Free functions; each touches its own file alone.
#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace flexgen {

enum class FigureKind { report, page, trace, profile, diagnosis, verification, plan };

/// What a report's page begins with, by which it is known.
inline constexpr std::string_view page_marker = "<!doctype html>\n<!-- report of flexgen-dist -->\n";

/// Can figures go there: to a file in a folder that exists, which is new, empty or holds figures of this kind; to a
/// device or a pipe; to "-", standard output. Throws UserError (file), naming `option`. Looks only: a disk may still be
/// full at the end.
void check_figure_file(const std::string& path, FigureKind kind, std::string_view option);

/// Replaces `path` as a whole, through a link: a reader sees the old file or the new one. A device or a pipe, and
/// standard output ("-"), are written to. Throws UserError (file), naming `option`.
void write_figure_file(const std::string& path, const std::vector<std::string_view>& parts, FigureKind kind,
                       std::string_view option);

/// A Chrome trace of the events of all ranks, each rank's as chrome_trace_events gives them. As write_figure_file.
void write_trace(const std::string& path, const std::vector<std::string>& events_by_rank);

}  // namespace flexgen

// A line that stands unfinished on a terminal, as progress is shown there: messages of the log take its place instead
// of going on behind it. Who shows the line writes it anew below.
//
// Thread-safe; one such line a process.
#pragma once

namespace flexgen::log {

void begin_open_line();
void end_open_line();

}  // namespace flexgen::log

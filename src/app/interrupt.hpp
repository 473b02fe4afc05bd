// Ctrl-C and SIGTERM: one line on stderr, exit code 130, at once.
//
// Nothing has to be tidied up: scratch files have no names, result lines are written whole. Under a launcher the exit
// of one rank ends the others. Process-wide; call from the main thread.
#pragma once

namespace flexgen {

/// Takes over SIGINT and SIGTERM, unless they are ignored (nohup, background jobs of a script).
/// @param last_words  a string literal, written before the end; "" ends silently. A later call replaces it.
void end_on_interrupt(const char* last_words);

}  // namespace flexgen

// Ctrl-C and SIGTERM: one line on stderr, exit code 130, at once; while sweeps run, first a chance to end with them.
//
// Little has to be tidied up: scratch files have no names, result lines are written whole. Under a launcher the exit
// of one rank ends the others. Process-wide; call from the main thread.
#pragma once

#include <cstdint>
#include <string>

namespace flexgen {

/// Takes over SIGINT and SIGTERM, unless they are ignored (nohup, background jobs of a script).
/// @param last_words  a string literal, written before the end; "" ends silently. A later call replaces it.
void end_on_interrupt(const char* last_words);

/// A launcher that ends a job sends SIGTERM to the ranks that are left: nothing more comes of those.
enum class Launch : std::uint8_t { alone, ranks };

/// From now on SIGUSR1 and, of a process alone, the first interrupt do no more than make stop_requested() true.
void stop_on_interrupt(Launch launch);
/// The next interrupt ends the process at once. What was requested stays so.
void no_stop_on_interrupt();
bool stop_requested();

/// A file that this job has made, which an interrupt removes if nothing has been written to it. A later call replaces
/// it.
void remove_if_left_empty(const std::string& file);

/// Does so now, for an end of the job that runs no destructors. Async-signal-safe.
void remove_file_left_empty();

}  // namespace flexgen

// Human output: stderr, rank 0 speaks, other ranks only warn, each line of theirs prefixed "[r1/4 host]".
//
// Thread-safe. Formatting is the caller's (fmt::format); the logging library stays in log.cpp, because its
// headers are slow and clash with those that LibTorch ships.
#pragma once

#include <string>
#include <string_view>

namespace flexgen::log {

enum class Level { debug, info, warn, error };

/// "debug" | "info" | "warn" | "error"; throws UserError (usage) otherwise.
Level parse_level(std::string_view text);

/// Sets level and prefix for this process. Before this call everything at info and above is printed unprefixed.
void set_up(Level level, int rank, int world_size, const std::string& host);

void debug(std::string_view message);
void info(std::string_view message);
void warn(std::string_view message);
void error(std::string_view message);

}  // namespace flexgen::log

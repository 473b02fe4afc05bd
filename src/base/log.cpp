#include "base/log.hpp"

#include <spdlog/sinks/stdout_sinks.h>
#include <spdlog/spdlog.h>

#include <atomic>

#include "base/error.hpp"
#include "base/log_line.hpp"

namespace flexgen::log {
namespace {

spdlog::logger& logger() {
  static const std::shared_ptr<spdlog::logger> instance = [] {
    auto made = std::make_shared<spdlog::logger>("flexgen", std::make_shared<spdlog::sinks::stderr_sink_mt>());
    made->set_pattern("%v");
    made->flush_on(spdlog::level::debug);
    return made;
  }();
  return *instance;
}

std::atomic<bool> has_open_line = false;

/// Back to the first column, and nothing stands there any more.
const char* line_begin() { return has_open_line.load(std::memory_order_relaxed) ? "\r\x1b[K" : ""; }

spdlog::level::level_enum to_spdlog(Level level) {
  switch (level) {
    case Level::debug: return spdlog::level::debug;
    case Level::info: return spdlog::level::info;
    case Level::warn: return spdlog::level::warn;
    case Level::error: return spdlog::level::err;
  }
  return spdlog::level::info;
}

}  // namespace

Level parse_level(std::string_view text) {
  if (text == "debug") return Level::debug;
  if (text == "info") return Level::info;
  if (text == "warn") return Level::warn;
  if (text == "error") return Level::error;
  throw UserError(ExitCode::usage, "'" + std::string(text) + "' is not a log level", "unknown word",
                  "Use debug, info, warn or error");
}

void set_up(Level level, int rank, int world_size, const std::string& host) {
  const bool quiet = rank != 0 && level == Level::info;
  logger().set_level(to_spdlog(quiet ? Level::warn : level));
  if (world_size > 1 && rank != 0)
    logger().set_pattern("[r" + std::to_string(rank) + "/" + std::to_string(world_size) + " " + host + "] %v");
  else logger().set_pattern("%v");
}

void debug(std::string_view message) { logger().debug("{}{}", line_begin(), message); }
void info(std::string_view message) { logger().info("{}{}", line_begin(), message); }
void warn(std::string_view message) { logger().warn("{}warning: {}", line_begin(), message); }
void error(std::string_view message) { logger().error("{}error: {}", line_begin(), message); }

void begin_open_line() { has_open_line.store(true, std::memory_order_relaxed); }
void end_open_line() { has_open_line.store(false, std::memory_order_relaxed); }

}  // namespace flexgen::log

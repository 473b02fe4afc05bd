// Errors that reach a user, and the always-on checks of the code itself.
//
// Every message reads "what, why, what to do". The exit code travels with the error, so `main` needs no table.
#pragma once

#include <stdexcept>
#include <string>
#include <string_view>

namespace flexgen {

/// The program's exit codes (documented in README.md).
enum class ExitCode : int {
  ok = 0,
  rows_failed = 1,
  usage = 2,
  model = 3,
  does_not_fit = 4,
  communication = 5,
  file = 6,
  internal = 70,
  interrupted = 130,
};

/// Base of all errors thrown by the project.
class Error : public std::runtime_error {
 public:
  Error(ExitCode code, const std::string& message) : std::runtime_error(message), code_(code) {}
  ExitCode code() const { return code_; }

 private:
  ExitCode code_;
};

/// Something the user can put right: a flag, a file, a model, a budget.
class UserError : public Error {
 public:
  /// @param problem    what went wrong ("cannot open shard 'x.bin'")
  /// @param reason     why ("No such file or directory")
  /// @param suggestion what to do; may be empty
  UserError(ExitCode code, std::string_view problem, std::string_view reason, std::string_view suggestion = "");
};

/// A call to the operating system or a library failed.
class SystemError : public Error {
 public:
  /// @param call   what was called, with its subject ("pread of 'x.bin' at 4096")
  /// @param detail the decoded reason ("Input/output error")
  SystemError(ExitCode code, std::string_view call, std::string_view detail, std::string_view suggestion = "");
};

/// A broken invariant of our own: always a bug.
class InternalError : public Error {
 public:
  explicit InternalError(const std::string& message) : Error(ExitCode::internal, message) {}
};

/// Text of an errno value (thread-safe).
std::string errno_text(int error_number);

/// The message names `file` from src/ or tests/ on.
[[noreturn]] void fail_check(const char* condition, std::string_view message, const char* file, int line);

}  // namespace flexgen

/// Always-on check of an invariant of our own; throws InternalError.
#define FLEXGEN_CHECK(condition, message)                               \
  do {                                                                  \
    if (!(condition)) [[unlikely]]                                      \
      ::flexgen::fail_check(#condition, (message), __FILE__, __LINE__); \
  } while (false)

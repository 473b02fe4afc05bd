#include "base/error.hpp"

#include <cstring>

namespace flexgen {
namespace {

std::string compose(std::string_view what, std::string_view why, std::string_view suggestion) {
  std::string text(what);
  if (!why.empty()) text.append(": ").append(why);
  if (!suggestion.empty()) text.append(". ").append(suggestion);
  return text;
}

// From src/ or tests/ on: where the machine that built the program keeps its sources says nothing to its user.
std::string_view source_name(std::string_view file) {
  for (const std::string_view top : {"/src/", "/tests/"})
    if (const std::size_t at = file.rfind(top); at != std::string_view::npos) return file.substr(at + 1);
  return file.starts_with('/') ? file.substr(file.rfind('/') + 1) : file;
}

}  // namespace

UserError::UserError(ExitCode code, std::string_view problem, std::string_view reason, std::string_view suggestion)
    : Error(code, compose(problem, reason, suggestion)) {}

SystemError::SystemError(ExitCode code, std::string_view call, std::string_view detail, std::string_view suggestion)
    : Error(code, compose(std::string(call) + " failed", detail, suggestion)) {}

std::string errno_text(int error_number) {
  char buffer[256] = {};
  return std::string(strerror_r(error_number, buffer, sizeof buffer));
}

void fail_check(const char* condition, std::string_view message, const char* file, int line) {
  throw InternalError("internal error: " + std::string(message) + " (" + condition + " at " +
                      std::string(source_name(file)) + ":" + std::to_string(line) +
                      "). Please report this with the command line");
}

}  // namespace flexgen

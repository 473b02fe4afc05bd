#include "job/figure_file.hpp"

#include <fcntl.h>
#include <fmt/core.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>

#include "base/bytes.hpp"
#include "base/error.hpp"
#include "base/trace.hpp"
#include "job/file_descriptor.hpp"

namespace flexgen {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;

const char* kind_name(FigureKind kind) {
  switch (kind) {
    case FigureKind::report: return "report";
    case FigureKind::page: return "report's page";
    case FigureKind::trace: return "trace";
    case FigureKind::diagnosis: return "doctor's report";
    case FigureKind::verification: return "report of verify";
    case FigureKind::plan: return "plan";
    case FigureKind::profile: break;
  }
  return "hardware profile";
}

// Reports and profiles are small; what is larger is neither, and is not read.
constexpr std::uintmax_t most_bytes = 64 * MiB;

constexpr std::string_view trace_begin = "{\"traceEvents\":[\n";

/// The outermost members of a JSON file; what lies in them is dropped. Not an object: there are none.
json outer_members(const std::string& path) {
  std::error_code error;
  if (fs::file_size(path, error) > most_bytes || error) return {};
  std::ifstream file(path);
  json members = json::parse(
      file, [](int depth, json::parse_event_t, json&) { return depth <= 1; }, false);
  return members.is_object() ? members : json();
}

bool has_all(const json& members, std::initializer_list<const char*> names) {
  for (const char* name : names)
    if (!members.contains(name)) return false;
  return true;
}

bool begins_with(const std::string& path, std::string_view wanted) {
  std::string found(wanted.size(), '\0');
  std::ifstream file(path, std::ios::binary);
  return file.read(found.data(), static_cast<std::streamsize>(found.size())) && found == wanted;
}

/// Traces may be large, and a job that was killed leaves a torn one: the first event, rank 0's name, tells.
bool is_trace(const std::string& path) {
  const std::string events = chrome_trace_events({}, 0, 0);
  return begins_with(path, std::string(trace_begin) + events.substr(0, events.find('\n') - 1));
}

bool holds(const std::string& path, FigureKind kind) {
  if (kind == FigureKind::trace) return is_trace(path);
  if (kind == FigureKind::page) return begins_with(path, page_marker);
  const json members = outer_members(path);
  if (kind == FigureKind::profile) return has_all(members, {"schema_version", "program", "measured_at", "memory"});
  const char* own = kind == FigureKind::diagnosis      ? "verdict"
                    : kind == FigureKind::verification ? "closeness"
                    : kind == FigureKind::plan         ? "ways"
                                                       : "throughput";
  return has_all(members, {"schema_version", "program", own}) && members["program"] == "flexgen-dist";
}

/// Returns 0 or an errno value.
int write_parts(int fd, const std::vector<std::string_view>& parts) {
  for (const std::string_view part : parts)
    if (const WriteOutcome outcome = write_fully(fd, part); outcome.error_number != 0) return outcome.error_number;
  return 0;
}

/// Returns 0 or an errno value.
int write_file(const std::string& path, const std::vector<std::string_view>& parts, int flags) {
  auto file = FileDescriptor::owned(::open(path.c_str(), O_WRONLY | O_CLOEXEC | flags, 0666));
  if (!file.is_open()) return errno;
  if (const int error_number = write_parts(file.get(), parts); error_number != 0) return error_number;
  if (::fsync(file.get()) != 0 && errno != EINVAL && errno != EROFS && errno != ENOTSUP) return errno;
  return file.close();
}

/// Returns 0 or an errno value.
int replace_file(const std::string& path, const std::vector<std::string_view>& parts) {
  const std::string target = end_of_links(path);
  const std::string temporary = fmt::format("{}.{}.partial", target, ::getpid());
  int error_number = write_file(temporary, parts, O_CREAT | O_TRUNC);
  if (error_number == 0 && std::rename(temporary.c_str(), target.c_str()) != 0) error_number = errno;
  if (error_number != 0) ::unlink(temporary.c_str());
  return error_number;
}

}  // namespace

void check_figure_file(const std::string& path, FigureKind kind, std::string_view option) {
  if (path == "-") return;
  const auto refuse = [&](std::string_view why, std::string_view remedy = "Check") {
    throw UserError(ExitCode::file, fmt::format("cannot write '{}'", path), why, fmt::format("{} {}", remedy, option));
  };
  struct stat status {};
  if (::stat(path.c_str(), &status) != 0) {
    if (errno != ENOENT && errno != ENOTDIR) refuse(errno_text(errno));
    check_folder_of(end_of_links(path), option);
  } else {
    if (S_ISDIR(status.st_mode)) refuse("it is a folder");
    if (::access(path.c_str(), W_OK) != 0) refuse(errno_text(errno));
    if (!S_ISREG(status.st_mode)) return;
    if (status.st_size > 0 && !holds(path, kind))
      refuse(fmt::format("it exists and is no {} of flexgen-dist", kind_name(kind)), "Name another file with");
  }
  // A file is replaced by another, which its folder must allow.
  const fs::path folder = fs::path(end_of_links(path)).parent_path();
  if (::access(folder.empty() ? "." : folder.c_str(), W_OK | X_OK) != 0)
    refuse(fmt::format("'{}': {}", folder.empty() ? "." : folder.string(), errno_text(errno)));
}

void write_figure_file(const std::string& path, const std::vector<std::string_view>& parts, FigureKind kind,
                       std::string_view option) {
  struct stat status {};
  int error_number = 0;
  if (path == "-") error_number = write_parts(STDOUT_FILENO, parts);
  else if (::stat(path.c_str(), &status) == 0 && !S_ISREG(status.st_mode)) error_number = write_file(path, parts, 0);
  else error_number = replace_file(path, parts);
  if (error_number != 0)
    throw UserError(ExitCode::file,
                    fmt::format("cannot write the {} '{}'", kind_name(kind), path == "-" ? "standard output" : path),
                    errno_text(error_number),
                    fmt::format("Results are not touched by this: free some space, or check {}", option));
}

void write_trace(const std::string& path, const std::vector<std::string>& events_by_rank) {
  std::vector<std::string_view> parts{trace_begin};
  for (const std::string& events : events_by_rank) {
    if (parts.size() > 1) parts.emplace_back(",\n");
    parts.emplace_back(events);
  }
  parts.emplace_back("\n]}\n");
  write_figure_file(path, parts, FigureKind::trace, "--trace");
}

}  // namespace flexgen

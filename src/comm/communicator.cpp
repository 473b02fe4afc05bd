#include "comm/communicator.hpp"

#include <unistd.h>

#include <algorithm>
#include <map>

#include "base/foreign_error.hpp"

namespace flexgen {
namespace {

/// What one rank reports to agree_on_error: "" for success, else code, a line end, and the message.
std::string encode_failure(ExitCode code, std::string_view message) {
  return std::to_string(static_cast<int>(code)) + "\n" + std::string(message);
}

/// A value as an error message shows it: one line, at most 80 characters.
std::string shown(std::string_view value) {
  std::string text(value.substr(0, 80));
  std::replace_if(
      text.begin(), text.end(), [](unsigned char c) { return c < 32; }, ' ');
  return "'" + text + (value.size() > 80 ? "...'" : "'");
}

}  // namespace

std::string host_name() {
  char buffer[256] = {};
  if (gethostname(buffer, sizeof buffer - 1) != 0) return "unknown-host";
  return buffer;
}

std::string Communicator::describe(int rank) const {
  return "rank " + std::to_string(rank) + " on " + place(rank).host;
}

void Communicator::all_equal(std::string_view what, std::string_view value) {
  const std::vector<std::string> values = all_gather(value);
  std::map<std::string_view, std::vector<int>> ranks_by_value;
  for (int r = 0; r < size(); ++r) ranks_by_value[values[static_cast<std::size_t>(r)]].push_back(r);
  if (ranks_by_value.size() == 1) return;

  constexpr std::size_t max_named = 4;  // of a thousand ranks, the first few tell enough
  std::vector<std::pair<int, std::string>> groups;
  for (const auto& [text, ranks] : ranks_by_value) {
    std::string line = shown(text) + " on ";
    for (std::size_t i = 0; i < std::min(ranks.size(), max_named); ++i) line += (i ? ", " : "") + describe(ranks[i]);
    if (ranks.size() > max_named) line += " and " + std::to_string(ranks.size() - max_named) + " more";
    groups.emplace_back(ranks.front(), line);
  }
  std::sort(groups.begin(), groups.end());
  std::string message = "the ranks differ in " + std::string(what) + ": ";
  for (std::size_t i = 0; i < std::min(groups.size(), max_named); ++i) message += (i ? "; " : "") + groups[i].second;
  throw AgreedError(ExitCode::communication, message + ". Start every rank with the same program, files and options");
}

void Communicator::agree_on_error(const std::function<void()>& set_up) {
  std::string mine;
  try {
    set_up();
  } catch (const std::exception& exception) {
    const Error error = foreign_error(exception);
    mine = encode_failure(error.code(), error.what());
  }
  const std::vector<std::string> all = all_gather(mine);
  const auto first = std::find_if(all.begin(), all.end(), [](const std::string& text) { return !text.empty(); });
  if (first == all.end()) return;

  const std::size_t line_end = first->find('\n');
  const auto code = static_cast<ExitCode>(std::stoi(first->substr(0, line_end)));
  std::string message = first->substr(line_end + 1);
  // An error that all ranks share (a flag, a missing file) needs no rank in its text.
  const bool shared = std::all_of(all.begin(), all.end(), [&](const std::string& text) { return text == *first; });
  if (!shared) message = describe(static_cast<int>(first - all.begin())) + ": " + message;
  throw AgreedError(code, message);
}

NullCommunicator::NullCommunicator() { set_places({RankPlace{host_name(), 0, 0, 1}}); }

}  // namespace flexgen

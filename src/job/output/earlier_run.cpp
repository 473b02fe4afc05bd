#include "job/output/earlier_run.hpp"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <type_traits>
#include <vector>

#include "base/bytes.hpp"
#include "job/file_descriptor.hpp"

namespace flexgen {
namespace {

/// Reads a file once, from its beginning, as far as it is asked about.
class PrefixReader {
 public:
  explicit PrefixReader(const std::string& path) : buffer_(MiB) {
    if (!path.empty()) file_ = FileDescriptor::owned(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
  }

  /// Whether the file begins so. Asked with ends that do not fall.
  bool has(const FilePrefix& prefix) {
    while (read_.end_bytes < prefix.end_bytes) {
      const std::size_t wanted = std::min<std::uint64_t>(buffer_.size(), prefix.end_bytes - read_.end_bytes);
      const ssize_t count = file_.is_open() ? ::read(file_.get(), buffer_.data(), wanted) : 0;
      if (count < 0 && errno == EINTR) continue;
      if (count <= 0) return false;
      read_.checksum = checksum({buffer_.data(), static_cast<std::size_t>(count)}, read_.checksum);
      read_.end_bytes += static_cast<std::uint64_t>(count);
    }
    return read_ == prefix;
  }

 private:
  FileDescriptor file_;
  std::vector<char> buffer_;
  FilePrefix read_;
};

/// Every record up to the first that is torn.
template <class Visit>
void for_each_record(std::string_view text, Visit visit) {
  for (std::size_t end = text.find('\n'); end != std::string_view::npos; end = text.find('\n')) {
    const std::optional<JournalRecord> record = parse_record(text.substr(0, end));
    if (!record) return;
    visit(*record);
    text.remove_prefix(end + 1);
  }
}

class RunReader {
 public:
  RunReader(std::string_view text, const std::array<std::string, max_output_files>& paths)
      : text_(text), paths_(paths), files_{PrefixReader(paths[0]), PrefixReader(paths[1])} {
    for_each_record(text_, [&](const JournalRecord& record) {
      if (const auto* sync = std::get_if<SyncRecord>(&record)) synced_ = sync->end_bytes;
    });
  }

  EarlierRun read() {
    for_each_record(text_, [&](const JournalRecord& record) { std::visit(*this, record); });
    return std::move(run_);
  }

  void operator()(const HeadRecord& head) {
    run_.is_readable = true;
    run_.state.head = head;
  }
  void operator()(const BaseRecord& base) {
    run_.state.done = base.done;
    run_.state.totals = base.totals;
    for (std::size_t file = 0; file < max_output_files; ++file) {
      synced_[file] = std::max(synced_[file], base.files[file].end_bytes);
      take(file, base.files[file]);
    }
  }
  void operator()(const RowRecord& row) {
    if (!take(row.file, row.prefix)) ++run_.num_lost_rows;
    else add(row.ordinal, row.outcome);
  }
  void operator()(const HeldRecord& held) {
    const auto offset = static_cast<std::uint64_t>(held.line.data() - text_.data());
    run_.state.held[held.ordinal] = {held.file, offset, held.line.size()};
    add(held.ordinal, held.outcome);
  }
  void operator()(const ReleaseRecord& release) {
    if (!take(release.file, release.prefix)) return;  // the lines still wait
    for (const std::uint64_t ordinal : release.ordinals) run_.state.held.erase(ordinal);
  }
  void operator()(const SyncRecord&) {}
  void operator()(const CompleteRecord&) { run_.state.is_complete = true; }

 private:
  /// Whether what a record says of a file came true. What follows one that did not is lost with it.
  bool take(std::size_t file, const FilePrefix& prefix) {
    is_cut_[file] = is_cut_[file] || !files_[file].has(prefix);
    if (!is_cut_[file]) run_.state.files[file] = prefix;
    else if (prefix.end_bytes <= synced_[file]) run_.changed_file = paths_[file];
    return !is_cut_[file];
  }
  // A row of the base whose line is held comes a second time.
  void add(std::uint64_t ordinal, const RowOutcome& outcome) {
    if (run_.state.done.add(ordinal)) run_.state.totals.add(outcome);
  }

  std::string_view text_;
  const std::array<std::string, max_output_files>& paths_;
  std::array<PrefixReader, max_output_files> files_;
  std::array<bool, max_output_files> is_cut_{};
  std::array<std::uint64_t, max_output_files> synced_{};
  EarlierRun run_;
};

}  // namespace

EarlierRun read_earlier_run(std::string_view journal_text, const std::array<std::string, max_output_files>& paths) {
  return RunReader(journal_text, paths).read();
}

}  // namespace flexgen

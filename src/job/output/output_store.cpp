#include "job/output/output_store.hpp"

#include <fmt/core.h>

#include <algorithm>
#include <utility>

#include "base/bytes.hpp"
#include "base/error.hpp"

namespace flexgen {
namespace {

constexpr std::size_t batch_bytes = 256 * KiB;
constexpr std::chrono::seconds batch_patience{10};
constexpr std::uint64_t small_journal_bytes = 16 * MiB;

std::string with_newline(std::string_view json) {
  std::string line(json);
  line.push_back('\n');
  return line;
}

}  // namespace

void OutputStore::begin() {
  if (std::exchange(has_begun_, true)) return;
  if (goes_on_) begin_files();  // before the journal, which names their ends from now on
  if (journal_) {
    journal_->replace(state_);
    journal_limit_bytes_ = std::max(small_journal_bytes, 4 * journal_->size_bytes());
  }
  if (!goes_on_) begin_files();  // behind it, so that old results are never gone on with
  if (!is_ordered())
    for (const auto& [ordinal, line] : state_.held) queue(ordinal);
  release_in_turn();
  flush();
}

void OutputStore::begin_files() {
  for (std::size_t i = 0; i < files_.size(); ++i) {
    files_[i].begin(state_.files[i]);
    if (goes_on_) files_[i].synchronise();
  }
}

void OutputStore::put(const ResultLine& line) {
  const std::size_t file = line.outcome.has_failed ? files_.size() - 1 : 0;
  FLEXGEN_CHECK(!is_ordered() || !order_.empty(), "a result of a row that was not admitted");
  const bool is_in_turn = !is_ordered() || order_.front() == line.ordinal;
  if (is_in_turn && files_[file].packing() == Packing::none) {
    place(file, line);
  } else {
    hold(file, line);
    if (is_in_turn) queue(line.ordinal);
  }
  state_.totals.add(line.outcome);
  if (journal_) state_.done.add(line.ordinal);
  if (is_ordered() && is_in_turn) {
    order_.pop_front();
    release_in_turn();
  }
  if (request_.flush == FlushRule::each_row) flush();
}

// The journal first: a process that ends between the two has a record that does not come true.
void OutputStore::flush() {
  if (journal_) journal_->flush();
  for (OutputFile& file : files_) file.flush();
  const bool has_more = std::exchange(num_safe_rows_, state_.totals.rows) < state_.totals.rows;
  if (request_.sync == SyncRule::rows && has_more) synchronise();
}

void OutputStore::place(std::size_t file, const ResultLine& line) {
  const std::string text = with_newline(line.json);
  const FilePrefix after = files_[file].with(text);
  if (journal_) journal_->append(RowRecord{line.ordinal, file, line.outcome, after});
  files_[file].write(text, after);
  state_.files[file] = after;
}

void OutputStore::hold(std::size_t file, const ResultLine& line) {
  journal_->append(HeldRecord{line.ordinal, file, line.outcome, line.json});
  state_.held[line.ordinal] = {file, journal_->size_bytes() - 1 - line.json.size(), line.json.size()};
}

void OutputStore::release(std::uint64_t ordinal) {
  const HeldLine& held = state_.held.at(ordinal);
  const std::size_t file = held.file;
  if (files_[file].packing() != Packing::none) {
    queue(ordinal);
    return;
  }
  const std::string text = with_newline(journal_->read(held));
  const FilePrefix after = files_[file].with(text);
  journal_->append(ReleaseRecord{file, after, {ordinal}});
  files_[file].write(text, after);
  state_.files[file] = after;
  state_.held.erase(ordinal);
}

void OutputStore::release_in_turn() {
  for (; !order_.empty() && state_.held.contains(order_.front()); order_.pop_front()) release(order_.front());
}

void OutputStore::queue(std::uint64_t ordinal) {
  const HeldLine& held = state_.held.at(ordinal);
  Waiting& waiting = waiting_[held.file];
  if (waiting.ordinals.empty()) waiting.since = std::chrono::steady_clock::now();
  waiting.ordinals.push_back(ordinal);
  waiting.size_bytes += held.size_bytes + 1;
}

std::optional<OutputStore::Batch> OutputStore::next_batch(Wanted wanted) {
  const auto old = std::chrono::steady_clock::now() - batch_patience;
  for (std::size_t file = 0; file < files_.size(); ++file) {
    Waiting& waiting = waiting_[file];
    const bool is_due = wanted == Wanted::all || waiting.size_bytes >= batch_bytes || waiting.since < old;
    if (waiting.ordinals.empty() || !is_due) continue;
    Batch batch{file, {}, {}};
    while (!waiting.ordinals.empty() && batch.text.size() < batch_bytes) {
      const std::uint64_t ordinal = waiting.ordinals.front();
      batch.text += with_newline(journal_->read(state_.held.at(ordinal)));
      batch.ordinals.push_back(ordinal);
      waiting.ordinals.pop_front();
    }
    waiting.size_bytes -= batch.text.size();
    return batch;
  }
  return std::nullopt;
}

void OutputStore::write_packed(const Batch& batch, std::string_view packed) {
  OutputFile& file = files_[batch.file];
  const FilePrefix after = file.with(packed);
  journal_->append(ReleaseRecord{batch.file, after, batch.ordinals});
  file.write(packed, after);
  state_.files[batch.file] = after;
  for (const std::uint64_t ordinal : batch.ordinals) state_.held.erase(ordinal);
  flush();
}

std::array<std::uint64_t, max_output_files> OutputStore::ends() const {
  std::array<std::uint64_t, max_output_files> ends{};
  for (std::size_t i = 0; i < files_.size(); ++i) ends[i] = files_[i].prefix().end_bytes;
  return ends;
}

void OutputStore::note_synced(const std::array<std::uint64_t, max_output_files>& ends_bytes) {
  if (journal_fd() < 0) return;
  journal_->append(SyncRecord{ends_bytes});
  journal_->flush();
}

void OutputStore::synchronise() {
  for (const OutputFile& file : files_) file.synchronise();
  note_synced(ends());
  if (journal_fd() < 0) return;
  if (const int error_number = flexgen::synchronise(journal_fd()); error_number != 0)
    throw OutputFault{fmt::format("the journal '{}': {}", journal_->path(), errno_text(error_number)),
                      "Free some space or choose another disk"};
}

void OutputStore::shorten_journal() {
  if (!journal_ || journal_->size_bytes() < journal_limit_bytes_) return;
  flush();
  for (const OutputFile& file : files_) file.synchronise();
  journal_->replace(state_);
  journal_limit_bytes_ = std::max(small_journal_bytes, 4 * journal_->size_bytes());
}

void OutputStore::complete() {
  flush();
  FLEXGEN_CHECK(order_.empty() && state_.held.empty(), "lines of finished rows still wait");
  for (std::size_t i = 0; i < files_.size(); ++i) {
    OutputFile& file = files_[i];
    if (file.packing() != Packing::none && file.prefix().end_bytes == 0) {  // no bytes at all are no packed file
      const std::string packed = pack(file.packing(), "");
      file.write(packed, file.with(packed));
    }
    file.flush();
    file.check();
    file.synchronise();
    state_.files[i] = file.prefix();
  }
  if (journal_fd() < 0) return;
  state_.is_complete = true;
  journal_->replace(state_);
}

void OutputStore::close() {
  for (OutputFile& file : files_) file.close();
}

}  // namespace flexgen

#include "job/output/result_writer.hpp"

#include <fmt/core.h>

#include <utility>

#include "base/error.hpp"

namespace flexgen {
namespace {

constexpr std::chrono::seconds sync_interval{1};

}  // namespace

ResultWriter::ResultWriter(OutputRequest request) : store_(std::move(request)) {}

ResultWriter::~ResultWriter() { stop_thread(); }

RowTotals ResultWriter::totals() const {
  const std::lock_guard lock(mutex_);
  return store_.totals();
}

bool ResultWriter::admit(const RowIdentity& row) {
  const std::lock_guard lock(mutex_);
  return store_.admit(ordinal_of(row));
}

void ResultWriter::require(const std::string& name, const std::string& value) {
  const std::lock_guard lock(mutex_);
  store_.require(name, value);
}

void ResultWriter::start() {
  const std::lock_guard lock(mutex_);
  start_locked();
}

void ResultWriter::start_locked() {
  is_started_ = true;
  for (const KeptLine& line : std::exchange(kept_, {})) put_locked({line.ordinal, line.json, line.outcome});
}

void ResultWriter::write(const RowIdentity& row, std::string_view json_line, const RowOutcome& outcome) {
  FLEXGEN_CHECK(json_line.find('\n') == json_line.npos, "a result line with a newline in it");
  const std::lock_guard lock(mutex_);
  if (is_started_) put_locked({ordinal_of(row), json_line, outcome});
  else kept_.push_back({ordinal_of(row), std::string(json_line), outcome});
}

void ResultWriter::put_locked(const ResultLine& line) {
  FLEXGEN_CHECK(!is_finished_, "write after finish");
  guarded([&] { return cannot_write(); },
          [&] {
            begin_locked();
            store_.put(line);
            is_unsynced_ = true;
          });
}

std::string ResultWriter::cannot_write() const {
  return fmt::format("cannot write row {} to {}", store_.num_safe_rows() + 1, store_.files().front().display_name());
}

std::string ResultWriter::cannot_synchronise() const {
  return fmt::format("cannot bring {} to the disk", store_.files().front().display_name());
}

void ResultWriter::flush() {
  const std::lock_guard lock(mutex_);
  if (store_.has_begun() && !is_finished_) guarded([&] { return cannot_write(); }, [&] { store_.flush(); });
}

void ResultWriter::begin_locked() {
  if (store_.has_begun()) return;
  store_.begin();
  thread_ = std::jthread([this](const std::stop_token& stop) { keep_up(stop); });
}

void ResultWriter::pause() {
  stop_thread();
  std::unique_lock lock(mutex_);
  if (!failure_.empty() || is_finished_ || !store_.has_begun()) return;
  guarded([&] { return cannot_synchronise(); },
          [&] {
            store_.flush();
            write_batches(OutputStore::Wanted::all, lock);
            store_.synchronise();
          });
}

void ResultWriter::finish() {
  std::unique_lock lock(mutex_);
  if (!is_started_) start_locked();
  lock.unlock();
  stop_thread();
  lock.lock();
  if (std::exchange(is_finished_, true) || !failure_.empty()) return;
  guarded([&] { return cannot_synchronise(); },
          [&] {
            store_.begin();
            write_batches(OutputStore::Wanted::all, lock);
            store_.complete();
            store_.close();
          });
}

/// Packs without the lock: rows go on being written meanwhile.
void ResultWriter::write_batches(OutputStore::Wanted wanted, std::unique_lock<std::mutex>& lock) {
  while (const std::optional<OutputStore::Batch> batch = store_.next_batch(wanted)) {
    const Packing packing = store_.files()[batch->file].packing();
    lock.unlock();
    const std::string packed = pack(packing, batch->text);
    lock.lock();
    store_.write_packed(*batch, packed);
    is_unsynced_ = true;
  }
}

void ResultWriter::keep_up(const std::stop_token& stop) {
  std::unique_lock lock(mutex_);
  while (!wake_.wait_for(lock, stop, sync_interval, [] { return false; }) && !stop.stop_requested()) {
    if (!failure_.empty()) return;
    try {
      guarded([&] { return cannot_synchronise(); },
              [&] {
                store_.flush();
                write_batches(OutputStore::Wanted::due, lock);
                if (store_.request().sync == SyncRule::seconds) synchronise_behind(lock);
                store_.shorten_journal();
              });
    } catch (const std::exception& error) {  // the next call says it
      if (!lock.owns_lock()) lock.lock();
      failure_ = error.what();
      return;
    }
  }
}

/// Waits for the disk without the lock. What the journal notes is what had been written before.
void ResultWriter::synchronise_behind(std::unique_lock<std::mutex>& lock) {
  if (!std::exchange(is_unsynced_, false)) return;
  const auto ends = store_.ends();
  lock.unlock();
  std::exception_ptr fault;
  try {
    for (const OutputFile& file : store_.files()) file.synchronise();
  } catch (const OutputFault&) {
    fault = std::current_exception();
  }
  lock.lock();
  if (fault) std::rethrow_exception(fault);
  store_.note_synced(ends);
  const int journal = store_.journal_fd();
  lock.unlock();
  const int error_number = journal >= 0 ? synchronise(journal) : 0;
  lock.lock();
  if (error_number != 0) throw OutputFault{"the journal: " + errno_text(error_number), "Check the disk"};
}

void ResultWriter::stop_thread() {
  thread_.request_stop();
  if (thread_.joinable()) thread_.join();
}

void ResultWriter::guarded(const std::function<std::string()>& what, const std::function<void()>& action) {
  if (!failure_.empty()) throw UserError(ExitCode::file, failure_, "");
  try {
    action();
  } catch (const OutputFault& fault) {
    const std::uint64_t rows = store_.num_safe_rows();
    const std::string_view state = !fault.rows_are_safe ? "may be lost" : rows == 1 ? "is safe" : "are safe";
    failure_ = fmt::format("{}: {}. {}. {} finished row{} {}", what(), fault.why, fault.remedy, rows,
                           rows == 1 ? "" : "s", state);
    throw UserError(ExitCode::file, failure_, "");
  }
}

}  // namespace flexgen

// Rows of a job's input that are read ahead of the engine, in a bounded window: before the job starts by whoever fills
// it, then by a thread of its own, which goes on as the window drains. Rows that cannot run overtake the others.
//
// A job is planned by the rows of its window. Those behind it that ask for what the plan has not are set aside, in
// their order, for a pass of their own, and fill half the window at most: then no more are read, what is left runs, and
// the pass is over.
//
// Refers to its reader. One thread takes rows out; the reading thread is the only one that uses the reader meanwhile.
#pragma once

#include <atomic>
#include <condition_variable>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <exception>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <thread>
#include <utility>
#include <variant>
#include <vector>

#include "base/bytes.hpp"
#include "job/request_reader.hpp"

namespace flexgen {

/// Most that the window holds; one row is always taken.
struct WindowLimits {
  std::size_t num_rows = 16384;
  std::size_t num_bytes = 256 * MiB;  // of text and ids
};

template <class Row>
class RowsAhead {
 public:
  /// Results that are to stand in order wait behind a row that was set aside.
  static constexpr std::uint64_t windows_overtaking = 64;

  /// A row that can run, or why one cannot.
  struct Opened {
    std::variant<std::unique_ptr<Row>, RowError> row;
    std::size_t num_bytes = 0;
    std::int64_t num_runs = 0;  // what it will ask the engine for
  };
  /// What becomes of a row as it is read, on whatever thread reads.
  struct Steps {
    std::function<bool(const RowIdentity&)> admit;  // false: an earlier run has done it
    std::function<Opened(ParsedRow)> open;
    std::function<bool(const Row&)> fits = {};  // of rows behind the window: the pass at hand can run it; empty: always
  };

  RowsAhead(WindowLimits limits, Steps steps) : limits_(limits), steps_(std::move(steps)) {}
  RowsAhead(const RowsAhead&) = delete;
  RowsAhead& operator=(const RowsAhead&) = delete;
  ~RowsAhead() { stop(); }

  /// Reads until the window is full or the input ends; rows that cannot run leave no room until one can. `look` sees
  /// every row as it comes. Throws what reading throws where nothing came before it.
  /// @param reader  must outlive this, unless the input ends
  template <class Look>
  void fill(RequestReader& reader, const Look& look) {
    reader_ = &reader;
    has_ended_ = false;
    refill(look);
    if (fault_ && num_read_ == 0) std::rethrow_exception(std::exchange(fault_, nullptr));
  }

  /// Goes on so. Like all that plan a pass, not while the thread reads.
  template <class Look>
  void refill(const Look& look) {
    while (!has_ended_ && (waits_.rows.empty() || has_room())) {
      std::optional<Opened> opened = read();
      if (!opened) {
        has_ended_ = true;
        break;
      }
      look(*opened);
      if (std::holds_alternative<std::unique_ptr<Row>>(opened->row)) keep(std::move(*opened), Pass::at_hand);
    }
  }

  /// A row that no input has.
  void put(Opened opened) {
    ++num_read_;
    keep(std::move(opened), Pass::at_hand);
  }

  /// Rows that wait to run.
  std::size_t num_waiting() const { return waits_.rows.size(); }
  /// Shows the first `count` of them.
  template <class Look>
  void show(std::size_t count, const Look& look) const {
    for (std::size_t i = 0; i < count; ++i) look(row_of(waits_.rows[i]));
  }
  /// Behind the first `count`, those that the pass cannot run are set aside.
  void sort_behind(std::size_t count) {
    std::deque<Opened> rows = std::exchange(waits_.rows, {});
    num_runs_ = 0;
    for (Opened& one : rows) {
      if (waits_.rows.size() < count || fits(one)) line_up(std::move(one));
      else set_aside(std::move(one));
    }
  }
  /// Takes out those that `picks` wants, and hands them over.
  template <class Picks, class Hand>
  void remove(const Picks& picks, const Hand& hand) {
    std::deque<Opened> rows = std::exchange(waits_.rows, {});
    num_runs_ = 0;
    for (Opened& one : rows) {
      if (!picks(row_of(one))) {
        line_up(std::move(one));
        continue;
      }
      waits_.num_bytes -= one.num_bytes;
      hand(row_of(one));
    }
  }
  /// The pass at hand has run to its end: the rows that were set aside wait to run in the next. False where there are
  /// none.
  bool begin_pass() {
    rest();
    std::deque<Opened> rows = std::exchange(waits_.aside, {});
    waits_.aside_bytes = 0;
    is_closed_ = false;
    for (Opened& one : rows) line_up(std::move(one));
    return !waits_.rows.empty();
  }

  /// A thread goes on reading from now on.
  void start() {
    if (!has_ended_ && !thread_.joinable()) thread_ = std::thread([this] { read_on(); });
  }

  /// The next row, null where the pass has no more: waits for it. Before, `fail` gets what cannot run, as it comes.
  template <class Fail>
  std::unique_ptr<Row> next(const Fail& fail) {
    start();
    std::unique_lock lock(mutex_);
    for (;;) {
      came_.wait(lock, [this] { return !waits_.rows.empty() || !waits_.errors.empty() || is_known(); });
      hand_out_errors(lock, fail);
      if (!waits_.rows.empty()) break;
      if (is_known() && waits_.errors.empty()) return nullptr;
    }
    Opened first = std::move(waits_.rows.front());
    waits_.rows.pop_front();
    waits_.num_bytes -= first.num_bytes;
    num_runs_ -= first.num_runs;
    went_.notify_one();
    return std::get<std::unique_ptr<Row>>(std::move(first.row));
  }

  /// What cannot run of the rows read since, without waiting.
  template <class Fail>
  void take_errors(const Fail& fail) {
    if (!has_errors_.load(std::memory_order_acquire)) return;
    std::unique_lock lock(mutex_);
    hand_out_errors(lock, fail);
  }

  /// The end of the input has been read: what waits is all that comes.
  bool has_ended() const { return has_ended_.load(std::memory_order_acquire); }
  /// What waits is all that comes in this pass.
  bool is_known() const { return has_ended() || is_closed_.load(std::memory_order_acquire); }
  /// What those that wait will ask the engine for. Exact once the pass is known.
  std::int64_t num_runs() const { return num_runs_.load(std::memory_order_relaxed); }
  /// Of the input, so far.
  std::uint64_t num_read() const { return num_read_.load(std::memory_order_relaxed); }

  /// Of the input's bytes, 0 .. 1; none where their number is not known, or all are read.
  std::optional<double> share_read() const { return has_ended() ? std::nullopt : reader_->share_read(); }

  /// Rows of the input, once it has ended.
  std::optional<std::size_t> num_in_all() const { return has_ended() ? std::optional(num_read()) : std::nullopt; }
  /// All of the input has been read, to its own end.
  bool is_whole() const { return has_ended() && !fault_; }
  /// Throws that by which the input has broken off, where it has ended so.
  void require_whole() const {
    if (has_ended() && fault_) std::rethrow_exception(fault_);
  }

 private:
  struct Waiting {
    std::deque<Opened> rows;
    std::deque<Opened> aside;  // for the next pass
    std::size_t aside_bytes = 0;
    std::uint64_t num_read_at_first_aside = 0;
    std::vector<std::pair<RowError, std::size_t>> errors;  // each with its bytes
    std::size_t num_bytes = 0;                             // of all
  };

  static Row& row_of(const Opened& opened) { return *std::get<std::unique_ptr<Row>>(opened.row); }

  bool has_room() const {
    return waits_.rows.size() + waits_.aside.size() + waits_.errors.size() < limits_.num_rows &&
           waits_.num_bytes < limits_.num_bytes && !is_closed_;
  }

  /// What cannot run at all waits for no pass.
  bool fits(const Opened& opened) const {
    const auto* row = std::get_if<std::unique_ptr<Row>>(&opened.row);
    return !row || !steps_.fits || steps_.fits(**row);
  }

  void line_up(Opened opened) {
    num_runs_ += opened.num_runs;
    waits_.rows.push_back(std::move(opened));
  }

  void set_aside(Opened opened) {
    waits_.aside_bytes += opened.num_bytes;
    waits_.aside.push_back(std::move(opened));
    if (waits_.aside.size() == 1) waits_.num_read_at_first_aside = num_read_;
    close_pass_if_due();
  }

  void close_pass_if_due() {
    if (waits_.aside.empty()) return;
    const bool has_many = 2 * waits_.aside.size() >= limits_.num_rows || 2 * waits_.aside_bytes >= limits_.num_bytes;
    const bool waits_long = num_read_ - waits_.num_read_at_first_aside >= windows_overtaking * limits_.num_rows;
    if (has_many || waits_long) is_closed_.store(true, std::memory_order_release);
  }

  /// None: the input has ended.
  std::optional<Opened> read() {
    try {
      while (std::optional<ParsedRow> row = reader_->next()) {
        ++num_read_;
        if (steps_.admit(identity_of(*row))) return steps_.open(std::move(*row));
      }
    } catch (...) {
      fault_ = std::current_exception();
    }
    return std::nullopt;
  }

  enum class Pass : std::uint8_t { at_hand, next };

  void keep(Opened opened, Pass pass) {
    waits_.num_bytes += opened.num_bytes;
    if (auto* error = std::get_if<RowError>(&opened.row)) {
      waits_.errors.emplace_back(std::move(*error), opened.num_bytes);
      has_errors_.store(true, std::memory_order_release);
    } else if (pass == Pass::at_hand) {
      line_up(std::move(opened));
      close_pass_if_due();
    } else {
      set_aside(std::move(opened));
    }
  }

  void read_on() {
    std::unique_lock lock(mutex_);
    for (;;) {
      went_.wait(lock, [this] { return is_stopped_ || has_room(); });
      if (is_stopped_) return;
      lock.unlock();
      std::optional<Opened> opened = read();
      const Pass pass = opened && !fits(*opened) ? Pass::next : Pass::at_hand;
      lock.lock();
      if (opened) keep(std::move(*opened), pass);
      else has_ended_.store(true, std::memory_order_release);
      came_.notify_one();
      if (!opened) return;
    }
  }

  template <class Fail>
  void hand_out_errors(std::unique_lock<std::mutex>& lock, const Fail& fail) {
    while (!waits_.errors.empty()) {
      auto errors = std::exchange(waits_.errors, {});
      for (const auto& [error, num_bytes] : errors) waits_.num_bytes -= num_bytes;
      has_errors_.store(false, std::memory_order_release);
      went_.notify_one();
      lock.unlock();
      for (const auto& [error, num_bytes] : errors) fail(error);
      lock.lock();
    }
  }

  void stop() {
    if (!thread_.joinable()) return;
    reader_->interrupt();
    rest();
  }

  /// The reading thread ends as soon as it does not read.
  void rest() {
    if (!thread_.joinable()) return;
    {
      const std::lock_guard lock(mutex_);
      is_stopped_ = true;
    }
    went_.notify_one();
    thread_.join();
    is_stopped_ = false;
  }

  const WindowLimits limits_;
  Steps steps_;
  RequestReader* reader_ = nullptr;
  std::mutex mutex_;  // of what waits, once the thread runs
  std::condition_variable came_, went_;
  Waiting waits_;
  std::exception_ptr fault_;
  bool is_stopped_ = false;
  std::atomic<bool> has_errors_ = false, has_ended_ = true, is_closed_ = false;
  std::atomic<std::int64_t> num_runs_ = 0;
  std::atomic<std::uint64_t> num_read_ = 0;
  std::thread thread_;
};

}  // namespace flexgen

#include "comm/mpi_transport.hpp"

#include <mpi.h>

#include <algorithm>
#include <climits>
#include <deque>
#include <map>
#include <optional>
#include <string>

#include "base/error.hpp"
#include "base/log.hpp"
#include "comm/mpi_error.hpp"

namespace flexgen {
namespace {

/// The peer and channel of a task, for messages and for MPI.
struct Line {
  int peer;
  Channel channel;
  auto operator<=>(const Line&) const = default;  // NOLINT(modernize-use-nullptr): clang-tidy 14 reads a literal 0
  int tag() const { return static_cast<int>(channel); }
  std::string text(std::string_view call) const {
    return std::string(call) + " with rank " + std::to_string(peer) + ", channel " + std::string(channel_name(channel));
  }
};

/// Messages of one line go one after the other, all parts of each: tasks queue here. Guarded by the MPI mutex.
class Queues {
 public:
  void join(const Line& line, const ProgressTask* task) { queues_[line].push_back(task); }
  bool is_first(const Line& line, const ProgressTask* task) const { return queues_.at(line).front() == task; }
  void leave(const Line& line, const ProgressTask* task) { std::erase(queues_.at(line), task); }

 private:
  std::map<Line, std::deque<const ProgressTask*>> queues_;
};

/// What the tasks of one transport share.
struct Wire {
  MPI_Comm comm = MPI_COMM_NULL;
  std::size_t part_bytes = 0;
  std::string who;
  Queues sending, receiving;
};

/// Parts of a message that MPI works on at once.
constexpr std::size_t send_window = 16;
constexpr std::size_t receive_window = 8;

/// One message: posts its parts when its turn has come, and keeps a window of them in flight.
class MessageTask : public ProgressTask {
 public:
  MessageTask(std::shared_ptr<Wire> wire, Queues& queues, Line line)
      : wire_(std::move(wire)), queues_(queues), line_(line) {}

 protected:
  /// Posts a part if MPI and the window allow it; sets all_posted_ with the last one. False: not now.
  virtual bool post_part() = 0;
  /// All parts are through.
  virtual void finish() {}
  void cancel() override { withdrawn_ = true; }

  void check(int code, std::string_view call) const { check_mpi(code, line_.text(call), wire_->who); }
  std::size_t num_in_flight() const { return in_flight_.size(); }
  MPI_Request* new_request() { return &in_flight_.emplace_back(MPI_REQUEST_NULL); }
  bool started() const { return all_posted_ || !in_flight_.empty() || num_completed_ > 0; }

  const std::shared_ptr<Wire> wire_;
  bool all_posted_ = false;

 private:
  Step step() override {
    if (place_ == Place::outside) {
      queues_.join(line_, this);
      place_ = Place::in_queue;
    }
    try {
      return advance();
    } catch (...) {
      leave_queue();
      throw;
    }
  }

  Step advance() {
    if (withdrawn_ && !started()) {
      leave_queue();
      return Step::finished;
    }
    const std::size_t num_completed_before = num_completed_;
    for (bool moving = true; moving;) {
      moving = false;
      while (!all_posted_ && queues_.is_first(line_, this) && post_part()) moving = true;
      if (all_posted_) leave_queue();
      while (!in_flight_.empty() && front_completed()) moving = true;
    }
    if (all_posted_ && in_flight_.empty()) {
      finish();
      return Step::finished;
    }
    return num_completed_ > num_completed_before ? Step::moved : Step::waiting;
  }

  bool front_completed() {
    int completed = 0;
    check(MPI_Test(&in_flight_.front(), &completed, MPI_STATUS_IGNORE), "MPI_Test");
    if (!completed) return false;
    in_flight_.pop_front();
    ++num_completed_;
    return true;
  }

  void leave_queue() {
    if (place_ == Place::in_queue) queues_.leave(line_, this);
    place_ = Place::past_queue;
  }

  enum class Place { outside, in_queue, past_queue };

  Queues& queues_;

 protected:
  const Line line_;

 private:
  std::deque<MPI_Request> in_flight_;  // oldest part first
  std::size_t num_completed_ = 0;      // parts
  Place place_ = Place::outside;
  bool withdrawn_ = false;
};

class SendTask final : public MessageTask {
 public:
  SendTask(const std::shared_ptr<Wire>& wire, Line line, std::span<const std::byte> data)
      : MessageTask(wire, wire->sending, line), data_(data) {}
  /// Keeps the bytes itself.
  SendTask(const std::shared_ptr<Wire>& wire, Line line, std::vector<std::byte> owned)
      : MessageTask(wire, wire->sending, line), owned_(std::move(owned)), data_(owned_) {}

 private:
  bool post_part() override {
    if (num_in_flight() == send_window) return false;
    const auto part = data_.subspan(num_posted_, std::min(wire_->part_bytes, data_.size() - num_posted_));
    check(MPI_Isend(part.data(), static_cast<int>(part.size()), MPI_BYTE, line_.peer, line_.tag(), wire_->comm,
                    new_request()),
          "MPI_Isend");
    num_posted_ += part.size();
    all_posted_ = part.size() < wire_->part_bytes;
    return true;
  }

  std::vector<std::byte> owned_;
  std::span<const std::byte> data_;
  std::size_t num_posted_ = 0;  // bytes
};

/// Receives into a buffer of the expected size or, without one, into a vector of its own. It asks for the size of
/// each part before taking it: Open MPI 4.1 crashes or hangs when a posted receive is too small for a large
/// message, and a posted receive cannot be withdrawn in a portable way.
class ReceiveTask final : public MessageTask {
 public:
  ReceiveTask(const std::shared_ptr<Wire>& wire, Line line) : MessageTask(wire, wire->receiving, line) {}
  ReceiveTask(const std::shared_ptr<Wire>& wire, Line line, std::span<std::byte> target)
      : MessageTask(wire, wire->receiving, line), target_(target) {}

  std::vector<std::byte> take() { return std::move(bytes_); }

 private:
  bool post_part() override {
    // The vector may move when it grows: then one part at a time.
    const bool into_target = target_ && num_posted_ < target_->size();
    if (num_in_flight() == (into_target ? receive_window : 1)) return false;
    int found = 0, count = 0;
    MPI_Message message = MPI_MESSAGE_NULL;
    MPI_Status status;
    check(MPI_Improbe(line_.peer, line_.tag(), wire_->comm, &found, &message, &status), "MPI_Improbe");
    if (!found) return false;
    check(MPI_Get_count(&status, MPI_BYTE, &count), "MPI_Get_count");
    const auto size = static_cast<std::size_t>(count);
    check(MPI_Imrecv(room_for(size), count, MPI_BYTE, &message, new_request()), "MPI_Imrecv");
    num_posted_ += size;
    all_posted_ = size < wire_->part_bytes;
    return true;
  }

  /// Where the next part goes. What is too much for the target is received aside and dropped: finish() reports it.
  std::byte* room_for(std::size_t part_size) {
    if (target_ && num_posted_ + part_size <= target_->size()) return target_->data() + num_posted_;
    const std::size_t offset = target_ ? 0 : num_posted_;
    bytes_.resize(std::max(bytes_.size(), offset + part_size));
    return bytes_.data() + offset;
  }

  void finish() override {
    if (target_ && num_posted_ != target_->size())
      throw SystemError(ExitCode::communication, line_.text("receive") + " by " + wire_->who,
                        "a message of " + std::to_string(num_posted_) + " bytes came where " +
                            std::to_string(target_->size()) + " were expected");
  }

  std::optional<std::span<std::byte>> target_;  // absent: any size
  std::vector<std::byte> bytes_;                // the message, or what did not fit the target
  std::size_t num_posted_ = 0;                  // bytes
};

/// Kind: PendingOp, or what is derived from it.
template <class Kind, class Task = ProgressTask>
class MpiOp : public Kind {
 public:
  MpiOp(MpiProgress& progress, std::shared_ptr<Task> task) : progress_(progress), task_(std::move(task)) {}

  ~MpiOp() override {
    using namespace std::chrono_literals;
    if (task_->finished_within(0ms)) return;
    progress_.cancel(*task_);
    if (!task_->finished_within(2s)) log::warn("a transfer of " + progress_.who() + " was abandoned half-way");
  }

  bool done() override { return task_->done(); }
  void wait() override { progress_.wait(*task_); }
  std::uint64_t done_ns() const override { return task_->finished_ns(); }

 protected:
  Task& task() { return *task_; }

 private:
  MpiProgress& progress_;
  std::shared_ptr<Task> task_;
};

class MpiMessage final : public MpiOp<PendingMessage, ReceiveTask> {
 public:
  using MpiOp::MpiOp;
  std::vector<std::byte> take() override { return task().take(); }
};

class MpiTransport final : public Transport {
 public:
  MpiTransport(MpiProgress& progress, std::size_t part_bytes) : progress_(progress), wire_(std::make_shared<Wire>()) {
    FLEXGEN_CHECK(part_bytes > 0 && part_bytes <= INT_MAX, "part size out of range");
    wire_->part_bytes = part_bytes;
    wire_->who = progress.who();
    progress_.call([this] {
      check_mpi(MPI_Comm_dup(MPI_COMM_WORLD, &wire_->comm), "MPI_Comm_dup", wire_->who);
      check_mpi(MPI_Comm_rank(wire_->comm, &rank_), "MPI_Comm_rank", wire_->who);
      check_mpi(MPI_Comm_size(wire_->comm, &size_), "MPI_Comm_size", wire_->who);
    });
  }

  ~MpiTransport() override {
    // Pending transfers keep the communicator alive inside MPI until they complete.
    progress_.call([this] { MPI_Comm_free(&wire_->comm); });
  }

  int rank() const override { return rank_; }
  int world_size() const override { return size_; }
  std::string_view name() const override { return "mpi"; }

  std::unique_ptr<PendingOp> send(std::span<const std::byte> data, int to, Channel channel) override {
    check_peer(to);
    return start(std::make_shared<SendTask>(wire_, Line{to, channel}, data));
  }

  std::unique_ptr<PendingOp> recv(std::span<std::byte> data, int from, Channel channel) override {
    check_peer(from);
    return start(std::make_shared<ReceiveTask>(wire_, Line{from, channel}, data));
  }

  void send_message(std::span<const std::byte> data, int to, Channel channel) override {
    check_peer(to);
    progress_.submit_detached(
        std::make_shared<SendTask>(wire_, Line{to, channel}, std::vector<std::byte>(data.begin(), data.end())));
  }

  std::unique_ptr<PendingMessage> start_recv_message(int from, Channel channel) override {
    check_peer(from);
    auto task = std::make_shared<ReceiveTask>(wire_, Line{from, channel});
    progress_.submit(task);
    return std::make_unique<MpiMessage>(progress_, std::move(task));
  }

 private:
  std::unique_ptr<PendingOp> start(std::shared_ptr<ProgressTask> task) {
    progress_.submit(task);
    return std::make_unique<MpiOp<PendingOp>>(progress_, std::move(task));
  }

  MpiProgress& progress_;
  std::shared_ptr<Wire> wire_;
  int rank_ = 0;
  int size_ = 1;
};

}  // namespace

std::unique_ptr<Transport> make_mpi_transport(MpiProgress& progress, std::size_t part_bytes) {
  return std::make_unique<MpiTransport>(progress, part_bytes);
}

}  // namespace flexgen

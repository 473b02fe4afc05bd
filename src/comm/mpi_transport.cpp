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

/// What the tasks of one transport share. Guarded by the MPI mutex.
struct Wire {
  MPI_Comm comm = MPI_COMM_NULL;
  std::size_t part_bytes = 0;
  std::string who;
  // recv_message calls wait in line per (peer, tag), so that the parts of two messages do not mix.
  std::map<std::pair<int, int>, std::deque<const ProgressTask*>> probing;
};

/// The peer and channel of a task, for messages and for MPI.
struct Line {
  int peer;
  Channel channel;
  int tag() const { return static_cast<int>(channel); }
  std::string text(std::string_view call) const {
    return std::string(call) + " with rank " + std::to_string(peer) + ", channel " + std::string(channel_name(channel));
  }
};

std::size_t num_parts(std::size_t size, std::size_t part_bytes) { return size / part_bytes + 1; }

class SendTask final : public ProgressTask {
 public:
  SendTask(std::shared_ptr<Wire> wire, Line line, std::span<const std::byte> data)
      : wire_(std::move(wire)), line_(line), data_(data) {}
  /// Keeps the bytes itself.
  SendTask(std::shared_ptr<Wire> wire, Line line, std::vector<std::byte> owned)
      : wire_(std::move(wire)), line_(line), owned_(std::move(owned)), data_(owned_) {}

 private:
  bool step() override {
    if (!started_) start();
    for (; num_completed_ < requests_.size(); ++num_completed_) {
      int completed = 0;
      check_mpi(MPI_Test(&requests_[num_completed_], &completed, MPI_STATUS_IGNORE), line_.text("MPI_Isend"), wire_->who);
      if (!completed) return false;
    }
    return true;
  }

  void start() {
    started_ = true;
    requests_.assign(num_parts(data_.size(), wire_->part_bytes), MPI_REQUEST_NULL);
    for (std::size_t i = 0; i < requests_.size(); ++i) {
      const auto part = data_.subspan(i * wire_->part_bytes).first(
          std::min(wire_->part_bytes, data_.size() - i * wire_->part_bytes));
      check_mpi(MPI_Isend(part.data(), static_cast<int>(part.size()), MPI_BYTE, line_.peer, line_.tag(), wire_->comm,
                          &requests_[i]),
                line_.text("MPI_Isend"), wire_->who);
    }
  }

  std::shared_ptr<Wire> wire_;
  Line line_;
  std::vector<std::byte> owned_;
  std::span<const std::byte> data_;
  std::vector<MPI_Request> requests_;  // [parts]
  std::size_t num_completed_ = 0;
  bool started_ = false;
};

class RecvTask final : public ProgressTask {
 public:
  RecvTask(std::shared_ptr<Wire> wire, Line line, std::span<std::byte> data)
      : wire_(std::move(wire)), line_(line), data_(data) {}

 private:
  bool step() override {
    if (!started_) start();
    for (; num_completed_ < requests_.size(); ++num_completed_) {
      int completed = 0;
      MPI_Status status;
      const int code = MPI_Test(&requests_[num_completed_], &completed, &status);
      if (code == MPI_SUCCESS && !completed) return false;
      if (!failure_ && !cancelled_) judge(code, status);
      if (failure_) cancel();  // the buffer stays in use until the other parts are back
    }
    if (failure_) throw *failure_;
    return true;
  }

  void cancel() override {
    if (cancelled_) return;
    cancelled_ = true;
    for (MPI_Request& request : requests_)
      if (request != MPI_REQUEST_NULL) MPI_Cancel(&request);
  }

  std::span<std::byte> part(std::size_t i) const {
    return data_.subspan(i * wire_->part_bytes)
        .first(std::min(wire_->part_bytes, data_.size() - i * wire_->part_bytes));
  }

  void start() {
    started_ = true;
    requests_.assign(num_parts(data_.size(), wire_->part_bytes), MPI_REQUEST_NULL);
    for (std::size_t i = 0; i < requests_.size(); ++i)
      check_mpi(MPI_Irecv(part(i).data(), static_cast<int>(part(i).size()), MPI_BYTE, line_.peer, line_.tag(),
                          wire_->comm, &requests_[i]),
                line_.text("MPI_Irecv"), wire_->who);
  }

  /// Looks at a part that has completed and notes what is wrong with it.
  void judge(int code, const MPI_Status& status) {
    int error_class = MPI_SUCCESS, received_bytes = 0;
    if (code != MPI_SUCCESS)
      MPI_Error_class(code, &error_class);
    else
      MPI_Get_count(&status, MPI_BYTE, &received_bytes);
    std::string reason;
    if (error_class == MPI_ERR_TRUNCATE ||
        (code == MPI_SUCCESS && static_cast<std::size_t>(received_bytes) != part(num_completed_).size()))
      reason = "a message of another size came where " + std::to_string(data_.size()) + " bytes were expected";
    else if (code != MPI_SUCCESS)
      reason = mpi_error_text(code);
    else
      return;
    requests_[num_completed_] = MPI_REQUEST_NULL;
    failure_.emplace(ExitCode::communication, line_.text("MPI_Irecv") + " by " + wire_->who, reason);
  }

  std::shared_ptr<Wire> wire_;
  Line line_;
  std::span<std::byte> data_;
  std::vector<MPI_Request> requests_;  // [parts]
  std::size_t num_completed_ = 0;
  std::optional<SystemError> failure_;
  bool started_ = false;
  bool cancelled_ = false;
};

class MessageTask final : public ProgressTask {
 public:
  MessageTask(std::shared_ptr<Wire> wire, Line line) : wire_(std::move(wire)), line_(line) {}

  std::vector<std::byte> take() { return std::move(bytes_); }

 private:
  bool step() override {
    auto& queue = wire_->probing[{line_.peer, line_.tag()}];
    if (!queued_) queue.push_back(this);
    queued_ = true;
    if (queue.front() != this) return false;
    try {
      if (!receive()) return false;
    } catch (...) {
      queue.pop_front();
      throw;
    }
    queue.pop_front();
    return true;
  }

  /// Goes as far as it can without waiting; true when the last part is in.
  bool receive() {
    for (;;) {
      if (request_ == MPI_REQUEST_NULL && !start_part()) return false;
      int completed = 0;
      check(MPI_Test(&request_, &completed, MPI_STATUS_IGNORE), "MPI_Imrecv");
      if (!completed) return false;
      if (static_cast<std::size_t>(part_count_) < wire_->part_bytes) return true;
    }
  }

  bool start_part() {
    int found = 0;
    MPI_Message message = MPI_MESSAGE_NULL;
    MPI_Status status;
    check(MPI_Improbe(line_.peer, line_.tag(), wire_->comm, &found, &message, &status), "MPI_Improbe");
    if (!found) return false;
    check(MPI_Get_count(&status, MPI_BYTE, &part_count_), "MPI_Get_count");
    const std::size_t offset = bytes_.size();
    bytes_.resize(offset + static_cast<std::size_t>(part_count_));
    check(MPI_Imrecv(bytes_.data() + offset, part_count_, MPI_BYTE, &message, &request_), "MPI_Imrecv");
    return true;
  }

  void check(int code, std::string_view call) const { check_mpi(code, line_.text(call), wire_->who); }

  std::shared_ptr<Wire> wire_;
  Line line_;
  std::vector<std::byte> bytes_;
  MPI_Request request_ = MPI_REQUEST_NULL;
  int part_count_ = 0;  // bytes of the part under way
  bool queued_ = false;
};

class MpiOp final : public PendingOp {
 public:
  MpiOp(MpiProgress& progress, std::shared_ptr<ProgressTask> task) : progress_(progress), task_(std::move(task)) {}

  ~MpiOp() override {
    using namespace std::chrono_literals;
    if (task_->finished_within(0ms)) return;
    progress_.cancel(*task_);
    if (!task_->finished_within(2s)) log::warn("a transfer of " + progress_.who() + " was abandoned half-way");
  }

  bool done() override { return task_->done(); }
  void wait() override { task_->wait(); }

 private:
  MpiProgress& progress_;
  std::shared_ptr<ProgressTask> task_;
};

class MpiTransport final : public Transport {
 public:
  MpiTransport(MpiProgress& progress, const MpiTransportOptions& options)
      : progress_(progress), wire_(std::make_shared<Wire>()) {
    FLEXGEN_CHECK(options.part_bytes > 0 && options.part_bytes <= INT_MAX, "part size out of range");
    wire_->part_bytes = options.part_bytes;
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
    return start(std::make_shared<RecvTask>(wire_, Line{from, channel}, data));
  }

  void send_message(std::span<const std::byte> data, int to, Channel channel) override {
    check_peer(to);
    progress_.submit_detached(std::make_shared<SendTask>(wire_, Line{to, channel},
                                                         std::vector<std::byte>(data.begin(), data.end())));
  }

  std::vector<std::byte> recv_message(int from, Channel channel) override {
    check_peer(from);
    const auto task = std::make_shared<MessageTask>(wire_, Line{from, channel});
    progress_.submit(task);
    task->wait();
    return task->take();
  }

 private:
  std::unique_ptr<PendingOp> start(std::shared_ptr<ProgressTask> task) {
    progress_.submit(task);
    return std::make_unique<MpiOp>(progress_, std::move(task));
  }

  MpiProgress& progress_;
  std::shared_ptr<Wire> wire_;
  int rank_ = 0;
  int size_ = 1;
};

}  // namespace

std::unique_ptr<Transport> make_mpi_transport(MpiProgress& progress, const MpiTransportOptions& options) {
  return std::make_unique<MpiTransport>(progress, options);
}

}  // namespace flexgen

#include "comm/in_process.hpp"

#include <condition_variable>
#include <cstring>
#include <deque>
#include <map>
#include <mutex>
#include <optional>
#include <string>
#include <thread>
#include <tuple>

#include "base/error.hpp"
#include "base/trace.hpp"

namespace flexgen {
namespace {

enum class OpState { queued, copying, done, failed };

/// One side of a transfer. Fields but the buffers are guarded by the world's mutex.
struct Operation {
  OpState state = OpState::queued;
  std::span<const std::byte> source;              // send
  std::vector<std::byte> owned;                   // send_message: the bytes behind `source`
  std::span<std::byte> target;                    // recv
  std::optional<std::vector<std::byte>> message;  // start_recv_message: takes any size
  std::uint64_t done_ns = 0;
  std::string error;
};
using OperationPointer = std::shared_ptr<Operation>;

struct Mailbox {
  std::deque<OperationPointer> sends;
  std::deque<OperationPointer> recvs;
};

using Lane = std::tuple<int, int, Channel>;  // from, to, channel

}  // namespace

class InProcessState {
 public:
  explicit InProcessState(int num_ranks) : num_ranks_(num_ranks), slots_(static_cast<std::size_t>(num_ranks)) {}

  int num_ranks() const { return num_ranks_; }

  void start(const Lane& lane, const OperationPointer& op, bool is_send) {
    std::unique_lock lock(mutex_);
    throw_if_failed();
    Mailbox& box = mailboxes_[lane];
    (is_send ? box.sends : box.recvs).push_back(op);
    if (box.sends.empty() || box.recvs.empty()) return;
    const OperationPointer send = box.sends.front(), recv = box.recvs.front();
    box.sends.pop_front();
    box.recvs.pop_front();
    send->state = recv->state = OpState::copying;
    lock.unlock();
    transfer(*send, *recv, lane);
    lock.lock();
    send->done_ns = recv->done_ns = now_ns();
    send->state = OpState::done;
    recv->state = recv->error.empty() ? OpState::done : OpState::failed;
    changed_.notify_all();
  }

  bool done(const Operation& op) {
    std::lock_guard lock(mutex_);
    if (op.state == OpState::failed) throw SystemError(ExitCode::communication, "receive", op.error);
    if (op.state == OpState::done) return true;
    throw_if_failed();
    return false;
  }

  void wait(const Operation& op) {
    std::unique_lock lock(mutex_);
    changed_.wait(lock, [&] { return op.state >= OpState::done || (failure_ && op.state != OpState::copying); });
    if (op.state == OpState::done) return;
    if (op.state == OpState::failed) throw SystemError(ExitCode::communication, "receive", op.error);
    throw_if_failed();
  }

  void abandon(const Lane& lane, const Operation& op) {
    std::unique_lock lock(mutex_);
    changed_.wait(lock, [&] { return op.state != OpState::copying; });
    Mailbox& box = mailboxes_[lane];
    std::erase_if(box.sends, [&](const OperationPointer& queued) { return queued.get() == &op; });
    std::erase_if(box.recvs, [&](const OperationPointer& queued) { return queued.get() == &op; });
  }

  std::vector<std::string> all_gather(int rank, std::string_view mine) {
    std::unique_lock lock(mutex_);
    throw_if_failed();
    slots_[static_cast<std::size_t>(rank)] = mine;
    if (++num_arrived_ == num_ranks_) {
      gathered_ = slots_;
      num_arrived_ = 0;
      ++round_;
      changed_.notify_all();
      return gathered_;
    }
    const auto round = round_;
    changed_.wait(lock, [&] { return round_ != round || failure_; });
    if (round_ == round) throw_if_failed();
    return gathered_;  // stays until all have arrived again, this rank included
  }

  void fail(int rank, std::exception_ptr error) {
    std::lock_guard lock(mutex_);
    if (failure_) return;
    failure_ = std::move(error);
    failed_rank_ = rank;
    changed_.notify_all();
  }

  std::exception_ptr failure() {
    std::lock_guard lock(mutex_);
    return failure_;
  }

 private:
  void throw_if_failed() const {
    if (!failure_) return;
    std::string reason = "unknown exception";
    try {
      std::rethrow_exception(failure_);
    } catch (const std::exception& error) {
      reason = error.what();
    } catch (...) {
    }
    throw SystemError(ExitCode::communication, "rank " + std::to_string(failed_rank_), reason);
  }

  static void transfer(const Operation& send, Operation& recv, const Lane& lane) {
    if (recv.message) {
      recv.message->assign(send.source.begin(), send.source.end());
    } else if (send.source.size() != recv.target.size()) {
      recv.error = "a message of " + std::to_string(send.source.size()) + " bytes came where " +
                   std::to_string(recv.target.size()) + " were expected (from rank " +
                   std::to_string(std::get<0>(lane)) + ", channel " + std::string(channel_name(std::get<2>(lane))) +
                   ")";
    } else if (!send.source.empty()) {
      std::memcpy(recv.target.data(), send.source.data(), send.source.size());
    }
  }

  const int num_ranks_;
  std::mutex mutex_;
  std::condition_variable changed_;
  std::map<Lane, Mailbox> mailboxes_;
  std::exception_ptr failure_;
  int failed_rank_ = -1;
  std::vector<std::string> slots_;     // [num_ranks] of the round under way
  std::vector<std::string> gathered_;  // [num_ranks] of the last round
  int num_arrived_ = 0;
  std::uint64_t round_ = 0;
};

namespace {

/// Kind: PendingOp, or what is derived from it.
template <class Kind>
class InProcessOp : public Kind {
 public:
  InProcessOp(std::shared_ptr<InProcessState> state, Lane lane, OperationPointer op)
      : state_(std::move(state)), lane_(lane), op_(std::move(op)) {}
  ~InProcessOp() override { state_->abandon(lane_, *op_); }
  bool done() override { return state_->done(*op_); }
  void wait() override { state_->wait(*op_); }
  std::uint64_t done_ns() const override { return op_->done_ns; }

 protected:
  Operation& operation() { return *op_; }

 private:
  std::shared_ptr<InProcessState> state_;
  Lane lane_;
  OperationPointer op_;
};

class InProcessMessage final : public InProcessOp<PendingMessage> {
 public:
  using InProcessOp::InProcessOp;
  std::vector<std::byte> take() override { return std::move(*operation().message); }
};

class InProcessTransport final : public Transport {
 public:
  InProcessTransport(std::shared_ptr<InProcessState> state, int rank) : state_(std::move(state)), rank_(rank) {}

  int rank() const override { return rank_; }
  int world_size() const override { return state_->num_ranks(); }
  std::string_view name() const override { return "in-process"; }

  std::unique_ptr<PendingOp> send(std::span<const std::byte> data, int to, Channel channel) override {
    auto op = std::make_shared<Operation>();
    op->source = data;
    return start<InProcessOp<PendingOp>>({rank_, to, channel}, std::move(op), true);
  }

  std::unique_ptr<PendingOp> recv(std::span<std::byte> data, int from, Channel channel) override {
    auto op = std::make_shared<Operation>();
    op->target = data;
    return start<InProcessOp<PendingOp>>({from, rank_, channel}, std::move(op), false);
  }

  void send_message(std::span<const std::byte> data, int to, Channel channel) override {
    check_peer(to);
    auto op = std::make_shared<Operation>();
    op->owned.assign(data.begin(), data.end());
    op->source = op->owned;
    state_->start({rank_, to, channel}, op, true);
  }

  std::unique_ptr<PendingMessage> start_recv_message(int from, Channel channel) override {
    auto op = std::make_shared<Operation>();
    op->message.emplace();
    return start<InProcessMessage>({from, rank_, channel}, std::move(op), false);
  }

 private:
  template <class Op>
  std::unique_ptr<Op> start(const Lane& lane, OperationPointer op, bool is_send) {
    check_peer(is_send ? std::get<1>(lane) : std::get<0>(lane));
    state_->start(lane, op, is_send);
    return std::make_unique<Op>(state_, lane, std::move(op));
  }

  std::shared_ptr<InProcessState> state_;
  int rank_;
};

class InProcessCommunicator final : public Communicator {
 public:
  InProcessCommunicator(std::shared_ptr<InProcessState> state, int rank) : state_(std::move(state)), rank_(rank) {
    std::vector<RankPlace> places;
    places.reserve(static_cast<std::size_t>(size()));
    for (int r = 0; r < size(); ++r) places.push_back({host_name(), 0, r, size()});
    set_places(std::move(places));
  }

  int rank() const override { return rank_; }
  int size() const override { return state_->num_ranks(); }
  void barrier() override { state_->all_gather(rank_, ""); }
  std::vector<std::string> all_gather(std::string_view mine) override { return state_->all_gather(rank_, mine); }
  std::string broadcast(std::string_view value, int root) override {
    return state_->all_gather(rank_, rank_ == root ? value : "")[static_cast<std::size_t>(root)];
  }

 private:
  std::shared_ptr<InProcessState> state_;
  int rank_;
};

}  // namespace

InProcessWorld::InProcessWorld(int num_ranks) : state_(std::make_shared<InProcessState>(num_ranks)) {
  FLEXGEN_CHECK(num_ranks > 0, "a world has at least one rank");
}

int InProcessWorld::size() const { return state_->num_ranks(); }

std::unique_ptr<Transport> InProcessWorld::transport(int rank) {
  return std::make_unique<InProcessTransport>(state_, rank);
}

std::unique_ptr<Communicator> InProcessWorld::communicator(int rank) {
  return std::make_unique<InProcessCommunicator>(state_, rank);
}

void InProcessWorld::fail(int rank, std::exception_ptr error) { state_->fail(rank, std::move(error)); }

void InProcessWorld::run(const std::function<void(Transport&, Communicator&)>& body) {
  std::vector<std::jthread> threads;
  threads.reserve(static_cast<std::size_t>(size()));
  for (int r = 0; r < size(); ++r)
    threads.emplace_back([this, r, &body] {
      try {
        const auto my_communicator = communicator(r);
        body(*transport(r), *my_communicator);
      } catch (...) {
        fail(r, std::current_exception());
      }
    });
  threads.clear();  // joins
  if (const std::exception_ptr error = state_->failure()) std::rethrow_exception(error);
}

}  // namespace flexgen

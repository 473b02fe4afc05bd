#include "comm/nccl_transport.hpp"

#include <cuda_runtime_api.h>
#include <nccl.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstring>
#include <exception>
#include <mutex>
#include <optional>
#include <string>
#include <thread>

#include "base/trace.hpp"
#include "comm/gpu_sharing.hpp"
#include "comm/nccl_stream.hpp"

namespace flexgen {
namespace {

using namespace std::chrono_literals;
using Clock = std::chrono::steady_clock;
using nccl::check_cuda;
using nccl::Event;
using nccl::Stream;

constexpr auto poll_pause = 20us;
constexpr auto watch_period = 100ms;
constexpr auto close_limit = 5s;
// Blocks of the GPU that a transfer may occupy, also while it waits for the peer; ample for hidden states.
constexpr int max_blocks = 4;

/// The communicator of two neighbours. Thread-safe.
class Link {
 public:
  /// @param side 0 for the lower rank, 1 for the higher
  Link(int peer, int side, int device, std::string who)
      : peer_(peer), side_(side), device_(device), who_(std::move(who)), send_stream_(who_), recv_stream_(who_) {}

  ~Link() {
    if (comm_) ncclCommAbort(comm_);
    if (probe_) cudaFree(probe_);
  }
  Link(const Link&) = delete;
  Link& operator=(const Link&) = delete;

  int peer() const { return peer_; }
  const std::string& who() const { return who_; }
  cudaStream_t send_stream() const { return send_stream_.get(); }
  cudaStream_t recv_stream() const { return recv_stream_.get(); }

  void start_connecting(const ncclUniqueId& id) {
    std::lock_guard lock(mutex_);
    check_cuda(cudaMalloc(&probe_, 2), "cudaMalloc", who_);
    ncclConfig_t config = NCCL_CONFIG_INITIALIZER;
    config.blocking = 0;
    config.maxCTAs = max_blocks;
    accept(ncclCommInitRankConfig(&comm_, 2, id, side_, &config), "ncclCommInitRankConfig");
  }

  /// Waits for the peer, then passes a byte both ways: NCCL connects at the first transfer, and would do so in the
  /// middle of the first step otherwise.
  void finish_connecting(Clock::time_point deadline) {
    std::lock_guard lock(mutex_);
    settle("ncclCommInitRankConfig", deadline);
    auto* bytes = static_cast<char*>(probe_);
    accept(ncclGroupStart(), "ncclGroupStart");
    accept(ncclSend(bytes, 1, ncclChar, 1 - side_, comm_, send_stream()), "ncclSend");
    accept(ncclRecv(bytes + 1, 1, ncclChar, 1 - side_, comm_, send_stream()), "ncclRecv");
    accept(ncclGroupEnd(), "ncclGroupEnd");
    settle("first transfer", deadline);
    Event done(who_);
    check_cuda(cudaEventRecord(done.get(), send_stream()), "cudaEventRecord", who_);
    for (cudaError_t state; (state = cudaEventQuery(done.get())) != cudaSuccess;
         std::this_thread::sleep_for(poll_pause)) {
      if (state != cudaErrorNotReady) check_cuda(state, "first transfer", who_);
      settle("first transfer", deadline);
      if (Clock::now() > deadline) fail("first transfer", "no answer in time");
    }
  }

  void transfer(bool is_send, void* data, std::size_t num_bytes, cudaStream_t stream) {
    std::lock_guard lock(mutex_);
    throw_if_failed();
    if (num_bytes == 0) return;                                 // on both sides
    check_cuda(cudaSetDevice(device_), "cudaSetDevice", who_);  // this thread may never have used the device
    const char* call = is_send ? "ncclSend" : "ncclRecv";
    accept(is_send ? ncclSend(data, num_bytes, ncclChar, 1 - side_, comm_, stream)
                   : ncclRecv(data, num_bytes, ncclChar, 1 - side_, comm_, stream),
           call);
    settle(call, Clock::time_point::max());
  }

  /// Throws the link's failure, if it has one.
  void throw_if_failed() const {
    if (failed_.load(std::memory_order_acquire)) throw SystemError(*failure_);
  }

  /// For the watcher: looks for an asynchronous error and, if there is one, aborts. Skips a link that a call is
  /// working on: the call looks itself.
  void poll() {
    const std::unique_lock lock(mutex_, std::try_to_lock);
    if (!lock || !comm_) return;
    ncclResult_t state = ncclSuccess;
    const ncclResult_t code = ncclCommGetAsyncError(comm_, &state);
    if (code != ncclSuccess) state = code;
    if (state != ncclSuccess && state != ncclInProgress) fail("transfer", text_of(state));
  }

  /// Aborts the communicator, so that no kernel waits for the peer any more. No effect on a failed link.
  void give_up(const std::string& reason) noexcept {
    try {
      std::lock_guard lock(mutex_);
      if (comm_) fail("transfer", reason);
    } catch (const Error&) {  // kept for the next caller
    }
  }

  void start_closing() noexcept {
    std::lock_guard lock(mutex_);
    if (comm_) ncclCommFinalize(comm_);
  }

  void finish_closing(Clock::time_point deadline) noexcept {
    std::lock_guard lock(mutex_);
    ncclResult_t state = ncclInProgress;
    while (comm_ && ncclCommGetAsyncError(comm_, &state) == ncclSuccess && state == ncclInProgress &&
           Clock::now() < deadline)
      std::this_thread::sleep_for(poll_pause);
    if (comm_ && state == ncclSuccess) {
      ncclCommDestroy(comm_);
      comm_ = nullptr;
    }
  }

 private:
  std::string text_of(ncclResult_t code) const {
    std::string text = ncclGetErrorString(code);
    const char* detail = comm_ ? ncclGetLastError(comm_) : nullptr;
    if (detail && *detail) text.append(" (").append(detail).append(")");
    return text;
  }

  void accept(ncclResult_t code, const char* call) {
    if (code != ncclSuccess && code != ncclInProgress) fail(call, text_of(code));
  }

  /// Waits until NCCL has taken in the last call; polling is what lets a lost peer be seen.
  void settle(const char* call, Clock::time_point deadline) {
    ncclResult_t state = ncclInProgress;
    for (int round = 0;; ++round) {
      const ncclResult_t code = ncclCommGetAsyncError(comm_, &state);
      if (code != ncclSuccess) state = code;
      if (state != ncclInProgress) break;
      if (Clock::now() > deadline) fail(call, "no answer in time");
      if (round < 100) std::this_thread::yield();
      else std::this_thread::sleep_for(poll_pause);
    }
    if (state != ncclSuccess) fail(call, text_of(state));
  }

  /// Notes the failure, aborts the communicator, and throws.
  [[noreturn]] void fail(const char* call, const std::string& reason) {
    if (!failed_) {
      failure_.emplace(ExitCode::communication,
                       std::string(call) + " with rank " + std::to_string(peer_) + " by " + who_, reason,
                       "Run with NCCL_DEBUG=INFO for NCCL's own account, or use the MPI transport");
      failed_.store(true, std::memory_order_release);  // before the abort lets waiting streams complete
    }
    if (comm_) ncclCommAbort(comm_);
    comm_ = nullptr;
    throw SystemError(*failure_);
  }

  const int peer_;
  const int side_;  // rank in the communicator
  const int device_;
  const std::string who_;
  std::mutex mutex_;  // NCCL wants one call at a time on a communicator
  Stream send_stream_, recv_stream_;
  ncclComm_t comm_ = nullptr;
  void* probe_ = nullptr;  // [2] bytes of device memory
  std::optional<SystemError> failure_;
  std::atomic<bool> failed_{false};
};

class NcclOp final : public PendingOp {
 public:
  NcclOp(std::shared_ptr<Link> link, cudaStream_t stream) : link_(std::move(link)), event_(link_->who()) {
    check_cuda(cudaEventRecord(event_.get(), stream), "cudaEventRecord", link_->who());
  }

  ~NcclOp() override {
    const auto deadline = Clock::now() + 2s;
    while (cudaEventQuery(event_.get()) == cudaErrorNotReady) {
      if (Clock::now() > deadline) link_->give_up("abandoned half-way");
      std::this_thread::sleep_for(poll_pause);
    }
  }

  bool done() override {
    const cudaError_t state = cudaEventQuery(event_.get());
    link_->throw_if_failed();  // after the query: an aborted transfer completes, too
    if (state != cudaErrorNotReady)
      check_cuda(state, "transfer with rank " + std::to_string(link_->peer()), link_->who());
    if (state == cudaSuccess && done_ns_ == 0) done_ns_ = now_ns();
    return state == cudaSuccess;
  }

  std::uint64_t done_ns() const override { return done_ns_; }

  void wait() override {
    for (int round = 0; !done(); ++round)
      if (round < 100) std::this_thread::yield();
      else std::this_thread::sleep_for(poll_pause);
  }

 private:
  std::shared_ptr<Link> link_;
  Event event_;
  std::uint64_t done_ns_ = 0;
};

/// Polls the links' asynchronous errors; when one has failed it aborts them all and reports once.
class Watcher {
 public:
  Watcher(std::vector<std::shared_ptr<Link>> links, std::function<void(const Error&)> on_failure)
      : links_(std::move(links)),
        on_failure_(std::move(on_failure)),
        thread_([this](const std::stop_token& stop) { run(stop); }) {}

 private:
  void run(const std::stop_token& stop) {
    std::unique_lock lock(mutex_);
    while (!stopped_.wait_for(lock, stop, watch_period, [&] { return stop.stop_requested(); })) {
      try {
        for (const auto& link : links_) {
          try {
            link->poll();
          } catch (const Error&) {
          }
          link->throw_if_failed();
        }
      } catch (const Error& error) {
        for (const auto& link : links_) link->give_up("another link failed");
        if (on_failure_) on_failure_(error);
        return;
      }
    }
  }

  std::vector<std::shared_ptr<Link>> links_;
  std::function<void(const Error&)> on_failure_;
  std::mutex mutex_;
  std::condition_variable_any stopped_;
  std::jthread thread_;  // last: stops before the rest goes
};

class NcclTransport final : public Transport {
 public:
  NcclTransport(std::unique_ptr<Transport> host, std::vector<std::shared_ptr<Link>> links,
                std::function<void(const Error&)> on_failure)
      : host_(std::move(host)), links_(std::move(links)) {
    watcher_.emplace(links_, std::move(on_failure));
  }

  ~NcclTransport() override {
    watcher_.reset();
    if (std::uncaught_exceptions() > 0) return;  // the links abort
    for (const auto& link : links_) link->start_closing();
    for (const auto& link : links_) link->finish_closing(Clock::now() + close_limit);
  }

  int rank() const override { return host_->rank(); }
  int world_size() const override { return host_->world_size(); }
  std::string_view name() const override { return "nccl"; }
  bool moves_device_memory() const override { return true; }

  std::unique_ptr<PendingOp> send(std::span<const std::byte> data, int to, Channel channel) override {
    if (channel != Channel::hidden) return host_->send(data, to, channel);
    const auto link = link_to(to);
    send_on_stream(data.data(), data.size(), to, link->send_stream());
    return std::make_unique<NcclOp>(link, link->send_stream());
  }

  std::unique_ptr<PendingOp> recv(std::span<std::byte> data, int from, Channel channel) override {
    if (channel != Channel::hidden) return host_->recv(data, from, channel);
    const auto link = link_to(from);
    recv_on_stream(data.data(), data.size(), from, link->recv_stream());
    return std::make_unique<NcclOp>(link, link->recv_stream());
  }

  void send_message(std::span<const std::byte> data, int to, Channel channel) override {
    host_->send_message(data, to, channel);
  }
  std::unique_ptr<PendingMessage> start_recv_message(int from, Channel channel) override {
    return host_->start_recv_message(from, channel);
  }

  void send_on_stream(const void* data, std::size_t num_bytes, int to, void* cuda_stream) override {
    link_to(to)->transfer(true, const_cast<void*>(data), num_bytes, static_cast<cudaStream_t>(cuda_stream));
  }
  void recv_on_stream(void* data, std::size_t num_bytes, int from, void* cuda_stream) override {
    link_to(from)->transfer(false, data, num_bytes, static_cast<cudaStream_t>(cuda_stream));
  }

 private:
  const std::shared_ptr<Link>& link_to(int peer) const {
    const auto found =
        std::find_if(links_.begin(), links_.end(), [&](const auto& link) { return link->peer() == peer; });
    FLEXGEN_CHECK(found != links_.end(), "hidden states travel between neighbouring ranks only");
    return *found;
  }

  std::unique_ptr<Transport> host_;
  std::vector<std::shared_ptr<Link>> links_;
  std::optional<Watcher> watcher_;
};

std::string pci_bus_id(int device) {
  int num_devices = 0;
  const cudaError_t code = cudaGetDeviceCount(&num_devices);
  if (code != cudaSuccess || device >= num_devices)
    throw UserError(ExitCode::communication,
                    "NCCL needs a GPU on every rank, and GPU " + std::to_string(device) + " is not there",
                    code != cudaSuccess ? cudaGetErrorString(code) : std::to_string(num_devices) + " are visible",
                    "Use the MPI transport, or start fewer ranks");
  std::array<char, 64> bus_id{};
  check_cuda(cudaSetDevice(device), "cudaSetDevice", host_name());
  check_cuda(cudaDeviceGetPCIBusId(bus_id.data(), static_cast<int>(bus_id.size()), device), "cudaDeviceGetPCIBusId",
             host_name());
  return bus_id.data();
}

}  // namespace

bool has_nccl() { return true; }

std::unique_ptr<Transport> make_nccl_transport(Communicator& communicator, std::unique_ptr<Transport> host,
                                               const NcclOptions& options) {
  const int rank = communicator.rank(), size = communicator.size();
  const std::string who = communicator.describe(rank);
  std::string gpu;
  communicator.agree_on_error([&] { gpu = pci_bus_id(options.device); });
  refuse_shared_gpus(communicator, gpu);

  std::string my_id;  // of the link to the next rank
  std::vector<std::shared_ptr<Link>> links;
  communicator.agree_on_error([&] {
    if (rank > 0) links.push_back(std::make_shared<Link>(rank - 1, 1, options.device, who));
    if (rank == size - 1) return;
    links.push_back(std::make_shared<Link>(rank + 1, 0, options.device, who));
    ncclUniqueId id;
    if (const ncclResult_t code = ncclGetUniqueId(&id); code != ncclSuccess)
      throw SystemError(ExitCode::communication, "ncclGetUniqueId by " + who, ncclGetErrorString(code));
    my_id.assign(id.internal, sizeof id.internal);
  });
  const std::vector<std::string> ids = communicator.all_gather(my_id);
  communicator.agree_on_error([&] {
    const auto deadline = Clock::now() + std::chrono::duration_cast<Clock::duration>(
                                             std::chrono::duration<double>(options.set_up_seconds));
    for (const auto& link : links) {
      ncclUniqueId id;
      std::memcpy(id.internal, ids[static_cast<std::size_t>(std::min(rank, link->peer()))].data(), sizeof id.internal);
      link->start_connecting(id);
    }
    for (const auto& link : links) link->finish_connecting(deadline);
  });
  return std::make_unique<NcclTransport>(std::move(host), std::move(links), options.on_failure);
}

}  // namespace flexgen

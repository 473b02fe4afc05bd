#include "device/stream.hpp"

#include <pthread.h>

#include <condition_variable>
#include <cstring>
#include <deque>
#include <exception>
#include <mutex>
#include <thread>
#include <vector>

#include "base/error.hpp"
#include "device/call_counts.hpp"
#ifdef FLEXGEN_HAS_CUDA
#include "device/cuda_check.hpp"
#include "device/cuda_spans.hpp"
#endif

namespace flexgen {

AtomicCallCounts& call_counts() {
  static AtomicCallCounts counts;
  return counts;
}

DeviceCallCounts device_call_counts() {
  return {call_counts().host_waits.load(), call_counts().allocations.load(),
          static_cast<double>(call_counts().pinning_ns.load()) / 1e9};
}

#ifdef FLEXGEN_HAS_CUDA
namespace {

// Events that are not in use, by device: making one is a call into the driver, and a sweep needs hundreds.
class EventPool {
 public:
  cudaEvent_t take(int device) {
    {
      const std::lock_guard lock(mutex_);
      std::vector<cudaEvent_t>& free = free_of(device);
      if (!free.empty()) {
        cudaEvent_t event = free.back();
        free.pop_back();
        return event;
      }
    }
    cudaEvent_t event = nullptr;
    FLEXGEN_CUDA_CALL(cudaEventCreateWithFlags(&event, cudaEventDisableTiming));
    return event;
  }
  void give_back(int device, cudaEvent_t event) {
    const std::lock_guard lock(mutex_);
    free_of(device).push_back(event);
  }
  /// Lives as long as the process: the driver may be gone when statics are destroyed.
  static EventPool& instance() {
    static auto& pool = *new EventPool;
    return pool;
  }

 private:
  std::vector<cudaEvent_t>& free_of(int device) {
    const auto index = static_cast<std::size_t>(device);
    if (index >= free_.size()) free_.resize(index + 1);
    return free_[index];
  }
  std::mutex mutex_;
  std::vector<std::vector<cudaEvent_t>> free_;
};

}  // namespace
#endif

struct Event::State {
  std::mutex mutex;
  std::condition_variable changed;
  bool recorded = false;
  std::exception_ptr error;
#ifdef FLEXGEN_HAS_CUDA
  cudaEvent_t cuda = nullptr;  // null: complete as soon as recorded
  int device = 0;
#endif
};

Event::Event() : state_(std::make_unique<State>()) {}

Event::~Event() {
#ifdef FLEXGEN_HAS_CUDA
  if (state_->cuda) EventPool::instance().give_back(state_->device, state_->cuda);
#endif
}

void Event::mark_recorded(std::exception_ptr error) {
  const std::lock_guard lock(state_->mutex);
  state_->recorded = true;
  state_->error = std::move(error);
  state_->changed.notify_all();
}

void Event::wait_until_recorded() {
  std::unique_lock lock(state_->mutex);
  state_->changed.wait(lock, [&] { return state_->recorded; });
  if (state_->error) std::rethrow_exception(state_->error);
}

void Event::synchronize() {
#ifdef FLEXGEN_HAS_CUDA
  wait_until_recorded();
  if (state_->cuda && cudaEventQuery(state_->cuda) != cudaSuccess) ++call_counts().host_waits;
#endif
  await_result();
}

void Event::await_result() {
  wait_until_recorded();
#ifdef FLEXGEN_HAS_CUDA
  if (state_->cuda) FLEXGEN_CUDA_CALL(cudaEventSynchronize(state_->cuda));
#endif
}

bool Event::complete() {
  {
    const std::lock_guard lock(state_->mutex);
    if (!state_->recorded) return false;
    if (state_->error) return true;
  }
#ifdef FLEXGEN_HAS_CUDA
  if (state_->cuda) {
    const cudaError_t status = cudaEventQuery(state_->cuda);
    if (status == cudaErrorNotReady) return false;
    check_cuda(status, "cudaEventQuery");
  }
#endif
  return true;
}

struct Stream::State {
  std::string name;
  Mode mode = Mode::inline_tasks;
  Device device;
  Tracer* tracer = nullptr;

  std::mutex mutex;
  std::condition_variable changed;
  std::deque<std::function<void()>> tasks;
  bool stopping = false;
  std::exception_ptr error;  // of the first task that threw; later tasks are skipped
  std::function<void(std::exception_ptr)> error_handler;
  std::thread worker;
#ifdef FLEXGEN_HAS_CUDA
  cudaStream_t cuda = nullptr;
  std::unique_ptr<CudaSpans> spans;
#endif

  void run_task(const std::function<void()>& task) {
    {
      const std::lock_guard lock(mutex);
      if (error) return;
    }
    try {
      task();
    } catch (...) {
      {
        const std::lock_guard lock(mutex);
        error = std::current_exception();
      }
      if (error_handler) error_handler(error);
    }
  }

  std::exception_ptr current_error() {
    const std::lock_guard lock(mutex);
    return error;
  }

  void serve() {
    pthread_setname_np(pthread_self(), name.substr(0, 15).c_str());
    try {
      use_device(device);
    } catch (...) {
      const std::lock_guard lock(mutex);
      error = std::current_exception();
    }
    while (true) {
      std::function<void()> task;
      {
        std::unique_lock lock(mutex);
        changed.wait(lock, [&] { return stopping || !tasks.empty(); });
        if (tasks.empty()) return;
        task = std::move(tasks.front());
        tasks.pop_front();
      }
      task();
    }
  }

  // Tasks that must run even on a poisoned stream (marking events) are appended raw.
  void append(std::function<void()> raw_task) {
    if (mode == Mode::inline_tasks) {
      raw_task();
      return;
    }
    const std::lock_guard lock(mutex);
    tasks.push_back(std::move(raw_task));
    changed.notify_one();
  }
};

Stream::Stream(std::string name, Mode mode, const Device& device, Tracer* tracer) : state_(std::make_unique<State>()) {
  state_->name = std::move(name);
  state_->mode = mode;
  state_->device = device;
  state_->tracer = tracer;
#ifdef FLEXGEN_HAS_CUDA
  if (device.is_cuda()) {
    use_device(device);
    FLEXGEN_CUDA_CALL(cudaStreamCreateWithFlags(&state_->cuda, cudaStreamNonBlocking));
    if (tracer) state_->spans = std::make_unique<CudaSpans>(state_->cuda, tracer);
  }
#endif
  if (mode == Mode::threaded) state_->worker = std::thread([state = state_.get()] { state->serve(); });
}

void Stream::stop() noexcept {
  if (!state_->worker.joinable()) return;
  {
    const std::lock_guard lock(state_->mutex);
    state_->stopping = true;
    state_->changed.notify_one();
  }
  state_->worker.join();
#ifdef FLEXGEN_HAS_CUDA
  if (state_->cuda) cudaStreamSynchronize(state_->cuda);
#endif
}

Stream::~Stream() {
  stop();
#ifdef FLEXGEN_HAS_CUDA
  if (state_->cuda) {
    cudaStreamSynchronize(state_->cuda);
    state_->spans.reset();
    cudaStreamDestroy(state_->cuda);
  }
#endif
}

void Stream::post(std::function<void()> task) {
  if (state_->mode == Mode::inline_tasks) {
    task();  // the caller sees the error at once
    return;
  }
  state_->append([state = state_.get(), task = std::move(task)] { state->run_task(task); });
}

void Stream::record_now(Event& event) {
  std::exception_ptr error = state_->current_error();
#ifdef FLEXGEN_HAS_CUDA
  if (state_->cuda && !error) {
    try {
      event.state_->device = state_->device.index;
      event.state_->cuda = EventPool::instance().take(state_->device.index);
      FLEXGEN_CUDA_CALL(cudaEventRecord(event.state_->cuda, state_->cuda));
    } catch (...) {
      error = std::current_exception();
    }
  }
#endif
  event.mark_recorded(std::move(error));
}

EventPtr Stream::record() {
  auto event = std::make_shared<Event>();
  state_->append([this, event] { record_now(*event); });
  return event;
}

EventPtr Stream::record_in_task() {
  auto event = std::make_shared<Event>();
  record_now(*event);
  return event;
}

void Stream::set_error_handler(std::function<void(std::exception_ptr)> handler) {
  state_->error_handler = std::move(handler);
}

void Stream::wait(const EventPtr& event) {
  if (!event) return;
  State* state = state_.get();
  post([state, event] {
    event->wait_until_recorded();
#ifdef FLEXGEN_HAS_CUDA
    if (event->state_->cuda) {
      if (state->cuda) FLEXGEN_CUDA_CALL(cudaStreamWaitEvent(state->cuda, event->state_->cuda, 0));
      else event->synchronize();
    }
#else
    (void)state;
#endif
  });
}

// What was traced is complete then, too: spans still to be read belong to the thread that runs the tasks.
void Stream::synchronize() {
#ifdef FLEXGEN_HAS_CUDA
  if (state_->spans) state_->append([this] { state_->spans->drain(true); });
#endif
  record()->synchronize();
}

void Stream::copy(std::byte* to, const std::byte* from, std::uint64_t bytes, Resource resource, const char* what) {
  if (bytes == 0) return;
  const StreamSpan span(*this, resource, what, bytes);
#ifdef FLEXGEN_HAS_CUDA
  if (state_->cuda) {
    FLEXGEN_CUDA_CALL(cudaMemcpyAsync(to, from, bytes, cudaMemcpyDefault, state_->cuda));
    return;
  }
#endif
  std::memcpy(to, from, bytes);
}

std::uint64_t Stream::open_span() {
  if (!state_->tracer) return 0;
#ifdef FLEXGEN_HAS_CUDA
  if (state_->spans) return state_->spans->open();
#endif
  return now_ns();
}

void Stream::close_span(std::uint64_t span, Resource resource, std::string_view name, std::uint64_t bytes) {
  if (!state_->tracer) return;
#ifdef FLEXGEN_HAS_CUDA
  if (state_->spans) {
    state_->spans->close(span, resource, name, bytes);
    return;
  }
#endif
  state_->tracer->record(resource, name, span, now_ns(), bytes);
}

const Device& Stream::device() const { return state_->device; }
Stream::Mode Stream::mode() const { return state_->mode; }
Tracer* Stream::tracer() const { return state_->tracer; }

void* Stream::native() const {
#ifdef FLEXGEN_HAS_CUDA
  return state_->cuda;
#else
  return nullptr;
#endif
}

}  // namespace flexgen

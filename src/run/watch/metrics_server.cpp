#include "run/watch/metrics_server.hpp"

#include <fmt/core.h>
#include <httplib.h>

#include <atomic>
#include <cerrno>
#include <mutex>
#include <thread>
#include <utility>

#include "base/error.hpp"
#include "base/thread_role.hpp"
#include "job/metrics_text.hpp"

namespace flexgen {
namespace {

constexpr std::size_t num_workers = 2;  // one may be held up by a reader that stalls
constexpr time_t patience_seconds = 2;
constexpr std::size_t most_request_bytes = 4096;

// The library would share the port with whoever asked for it in the same way.
void take_port_alone(socket_t socket) {
  const int yes = 1;  // connections of an earlier job that are fading do not count
  ::setsockopt(socket, SOL_SOCKET, SO_REUSEADDR, &yes, sizeof yes);
}

std::string bind_fault(int error_number) {
  switch (error_number) {
    case EADDRINUSE:
    case EACCES:
    case EADDRNOTAVAIL: return errno_text(error_number);
    default: return "the address is not known";
  }
}

}  // namespace

class MetricsServer::Listener {
 public:
  Listener(const std::string& address, std::int32_t port) {
    server_.new_task_queue = [] { return new httplib::ThreadPool(num_workers); };
    server_.set_socket_options(take_port_alone);
    server_.set_keep_alive_max_count(1);
    server_.set_read_timeout(patience_seconds);
    server_.set_write_timeout(patience_seconds);
    server_.set_payload_max_length(most_request_bytes);
    server_.Get("/metrics", [this](const httplib::Request&, httplib::Response& response) {
      const std::lock_guard lock(mutex_);
      response.set_content(text_, metrics_content_type);
    });
    errno = 0;
    port_ = port > 0 && server_.bind_to_port(address, port) ? port : -1;
    if (port == 0) port_ = server_.bind_to_any_port(address);
    if (port_ <= 0)
      throw UserError(ExitCode::usage, fmt::format("cannot serve metrics on {}:{}", address, port), bind_fault(errno),
                      "Choose another --metrics-port, or --metrics-address");
    thread_ = std::thread([this] {
      const ThreadRole role(observer_role);  // of those that it starts, too
      server_.listen_after_bind();
      has_ended_ = true;
    });
    while (!server_.is_running() && !has_ended_) std::this_thread::yield();  // stop() would come too early
  }
  ~Listener() {
    server_.stop();
    thread_.join();
  }
  Listener(const Listener&) = delete;
  Listener& operator=(const Listener&) = delete;

  void publish(std::string text) {
    const std::lock_guard lock(mutex_);
    text_ = std::move(text);
  }
  std::int32_t port() const { return port_; }

 private:
  httplib::Server server_;
  std::int32_t port_ = -1;
  std::mutex mutex_;
  std::string text_;
  std::atomic<bool> has_ended_ = false;
  std::thread thread_;
};

MetricsServer::MetricsServer(const std::string& address, std::int32_t port)
    : listener_(std::make_unique<Listener>(address, port)) {}

MetricsServer::~MetricsServer() = default;

void MetricsServer::publish(std::string text) { listener_->publish(std::move(text)); }

std::int32_t MetricsServer::port() const { return listener_->port(); }

}  // namespace flexgen

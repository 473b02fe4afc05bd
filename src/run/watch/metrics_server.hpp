// `--metrics-port`: answers GET /metrics with the text that was published last.
//
// Owns its listener and threads; they end with it. Thread-safe: publishing and serving meet in one lock, and who is
// slow to read holds up nobody but other readers.
#pragma once

#include <cstdint>
#include <memory>
#include <string>

namespace flexgen {

class MetricsServer {
 public:
  /// Listens from now on. Throws UserError (usage), naming --metrics-port, where it cannot: the port is taken, or the
  /// address is not this machine's.
  /// @param port  0: any that is free
  MetricsServer(const std::string& address, std::int32_t port);
  ~MetricsServer();
  MetricsServer(const MetricsServer&) = delete;
  MetricsServer& operator=(const MetricsServer&) = delete;

  /// @param text  as metrics_text makes it
  void publish(std::string text);
  std::int32_t port() const;

 private:
  class Listener;
  std::unique_ptr<Listener> listener_;
};

}  // namespace flexgen

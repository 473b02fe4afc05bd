// Ranks as threads of one process: the transport and communicator of tests and of a program started alone.
//
// A send stays pending until it meets its receive, the strictest reading of Transport: code that runs here does not
// lean on hidden buffers. Thread-safe. The transports and communicators keep the world alive.
#pragma once

#include <exception>
#include <functional>
#include <memory>

#include "comm/communicator.hpp"
#include "comm/transport.hpp"

namespace flexgen {

class InProcessState;

class InProcessWorld {
 public:
  explicit InProcessWorld(int num_ranks);

  int size() const;
  std::unique_ptr<Transport> transport(int rank);
  std::unique_ptr<Communicator> communicator(int rank);

  /// Rank `rank` has failed: every wait of the other ranks, now and later, throws SystemError (communication) at
  /// once. The first failure counts.
  void fail(int rank, std::exception_ptr error);

  /// Runs `body` on one thread per rank and joins them. If ranks throw, the others are failed, and the exception of
  /// the first is thrown here.
  void run(const std::function<void(Transport&, Communicator&)>& body);

 private:
  std::shared_ptr<InProcessState> state_;
};

}  // namespace flexgen

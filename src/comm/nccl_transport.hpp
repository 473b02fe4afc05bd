// Device memory between GPUs, by NCCL; control, tokens and reports go through a host transport.
//
// Every pair of neighbouring stages has a communicator of its own, because operations on one communicator run in
// the order of their calls: a receive that waits for the previous stage must not hold up a send to the next one.
// Communicators are non-blocking and a watcher polls their asynchronous errors; on an error the communicators are
// aborted, so that no kernel spins for ever, and every later call throws.
// Thread-safe. While a receive is under way no thread may synchronise the whole device (cudaMalloc, cudaFree).
// Source: NCCL user guide, "Point-to-point communication" and "Fault tolerance".
#pragma once

#include <functional>
#include <memory>

#include "base/error.hpp"
#include "comm/communicator.hpp"
#include "comm/transport.hpp"

namespace flexgen {

struct NcclOptions {
  int device = 0;               // CUDA ordinal of this rank
  double set_up_seconds = 120;  // limit for connecting
  /// Called once, from the watcher thread, when a link fails; meant for MpiSession::abort_job, as the main thread
  /// may be waiting for the GPU. May be empty.
  std::function<void(const Error&)> on_failure;
};

/// True if the program was built with NCCL.
bool has_nccl();

/// Collective. Hidden states travel between neighbours (rank r and r + 1) only. send() needs its data ready, that
/// is, the work that writes it completed; send_on_stream() does not. Throws AgreedError (communication) on all
/// ranks when two ranks share a GPU or a rank has none; UserError (usage) if NCCL was not compiled in.
/// @param communicator needed during the call only
/// @param host         carries all but the hidden channel
std::unique_ptr<Transport> make_nccl_transport(Communicator& communicator, std::unique_ptr<Transport> host,
                                               const NcclOptions& options);

}  // namespace flexgen

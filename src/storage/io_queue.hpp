// Asynchronous file I/O with a deep queue: io_uring where the kernel allows it, else a pool of pread threads.
//
// Ownership: an IoQueue owns its ring or threads and a bounce area; requests and their memory are the caller's and
// must live until run() returns, by value or by exception (it first waits for what is in flight).
// Thread-safety: none; one queue per worker thread. Callbacks run on the thread that called run().
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <string_view>

#include "storage/aligned_buffer.hpp"

namespace flexgen {

/// One transfer between a file and memory. Where `fd` is open for direct I/O, offset, data and size must be
/// multiples of `direct_alignment`.
struct IoRequest {
  int fd = -1;
  std::uint64_t offset_bytes = 0;
  std::byte* data = nullptr;  // read only when `write`
  std::uint64_t size_bytes = 0;
  bool write = false;
  /// A read may end this many bytes early (aligned reads reach past the end of a file).
  std::uint64_t optional_tail_bytes = 0;
};

/// Where a run gets its requests while it is under way.
class IoSource {
 public:
  virtual ~IoSource() = default;
  /// Gives the next request and a tag of the source's choice; false: none for now. Asked again after each done();
  /// the run ends when nothing is in flight and there is no next request.
  virtual bool next(IoRequest& request, std::uint64_t& tag) = 0;
  /// All bytes of the request with this tag are transferred.
  virtual void done(std::uint64_t tag) = 0;
};

class IoQueue {
 public:
  virtual ~IoQueue() = default;

  /// Performs the requests in any order, split into blocks of at most 1 MiB, and calls `on_done(index)` as each
  /// completes. Short transfers and interruptions are resumed.
  /// Throws UserError (file) with path, offset and reason on the first error or an end of file before the end.
  void run(std::span<const IoRequest> requests, const std::function<void(std::size_t)>& on_done = {});

  /// The same, with requests that are made up as earlier ones complete. What the source throws ends the run too.
  virtual void run_source(IoSource& source) = 0;

  /// "io_uring" or "pread".
  virtual std::string_view name() const = 0;

  /// Aligned memory for transfers that are not; used by read_extents and write_extents, between runs.
  BounceArea& bounce() { return bounce_; }

  /// io_uring where the kernel allows it, else make_pread() with a thread for eight of `depth`; one debug line says
  /// why.
  static std::unique_ptr<IoQueue> make(int depth = 64);
  /// Null where the kernel refuses io_uring; `refusal` then says why.
  static std::unique_ptr<IoQueue> make_uring(int depth, std::string& refusal);
  static std::unique_ptr<IoQueue> make_pread(int num_threads = 8);

 private:
  BounceArea bounce_;
};

}  // namespace flexgen

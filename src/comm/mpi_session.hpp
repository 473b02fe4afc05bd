// The life of MPI in this process, and the one place where a job of several ranks ends on an error.
//
// A program started alone never touches MPI: it gets a NullCommunicator and an in-process transport. One session per
// process, owned by main, which lets no exception pass it:
//
//     MpiSession session(argc, argv);
//     try { run(session); } catch (const Error& error) { return session.end_after(error); }
//
// Thread-safety: abort_job and end_after may be called from any thread; the rest belongs to the main thread.
// Policy: src/decisions/0001-mpi-errors-and-lost-ranks.md, 0013-ranks-that-do-not-answer.md.
#pragma once

#include <chrono>
#include <memory>
#include <string>

#include "base/bytes.hpp"
#include "base/error.hpp"
#include "comm/communicator.hpp"
#include "comm/transport.hpp"

namespace flexgen {

class MpiSession {
 public:
  /// Initialises MPI when a launcher started this process, and ties the process to that launcher. Throws UserError
  /// (communication) when launcher and MPI disagree about the number of ranks.
  MpiSession(int& argc, char**& argv);
  /// Finalises MPI. If an exception is passing, the job is aborted instead: the other ranks would wait for ever.
  ~MpiSession();
  MpiSession(const MpiSession&) = delete;
  MpiSession& operator=(const MpiSession&) = delete;

  /// False: started alone.
  bool launched() const;
  Communicator& communicator();

  /// Collective. From now on a rank that does not answer for so long, or a job in which no rank gets anywhere for so
  /// long, ends everywhere, as by abort_job (communication). Nothing where started alone, or for 0.
  void watch_ranks(std::chrono::seconds timeout);

  /// Collective. Host memory between the ranks: "mpi", or "in-process" when started alone. Destroy before the session.
  /// @param part_bytes messages travel in parts of this size, alike on all ranks
  std::unique_ptr<Transport> make_transport(std::size_t part_bytes = 256 * KiB);

  /// One rank has failed while the others go on: prints one message naming rank and host, and ends the job
  /// everywhere with `code`. Returns (the exit status for main) only when started alone.
  int abort_job(const std::string& message, ExitCode code);

  /// Ends the job on an error that reached main, and returns main's exit status. An AgreedError, which every rank
  /// has, is printed by rank 0; any other error aborts the job.
  int end_after(const Error& error);

 private:
  class Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace flexgen

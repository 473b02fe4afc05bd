// What all ranks do together at set-up and for reports: gather, compare, agree on errors.
//
// Every method marked "collective" is called by all ranks in the same order, from one thread at a time. None of it
// belongs in the steady state. A NullCommunicator (rank 0 of 1) serves a program started alone.
#pragma once

#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "base/error.hpp"

namespace flexgen {

/// An error that all ranks throw alike, with the same code and message: the job ends without MPI_Abort, and rank 0
/// alone speaks.
class AgreedError : public UserError {
 public:
  AgreedError(ExitCode code, const std::string& message) : UserError(code, message, "") {}
};

/// Where a rank runs.
struct RankPlace {
  std::string host;    // host name
  int node = 0;        // lowest rank that shares memory with this one: names the machine even if host names repeat
  int local_rank = 0;  // position among the ranks of the node
  int local_size = 1;  // ranks on the node
};

class Communicator {
 public:
  Communicator() = default;
  Communicator(const Communicator&) = delete;
  Communicator& operator=(const Communicator&) = delete;
  virtual ~Communicator() = default;

  virtual int rank() const = 0;
  virtual int size() const = 0;

  /// Collective.
  virtual void barrier() = 0;
  /// Collective. Element r is what rank r gave; any bytes.
  virtual std::vector<std::string> all_gather(std::string_view mine) = 0;
  /// Collective. The value of `root` on every rank; the other ranks' argument is not looked at.
  virtual std::string broadcast(std::string_view value, int root = 0) = 0;

  const RankPlace& place(int rank) const { return places_.at(static_cast<std::size_t>(rank)); }
  const std::string& host() const { return place(rank()).host; }
  int local_rank() const { return place(rank()).local_rank; }
  int local_size() const { return place(rank()).local_size; }
  /// "rank 1 on host-b".
  std::string describe(int rank) const;

  /// Collective. Throws AgreedError (communication) on every rank unless all gave the same value, naming who has
  /// what. `what` completes "the ranks differ in ..." ("the policy", "the program's version").
  void all_equal(std::string_view what, std::string_view value);

  /// Collective. Runs `set_up` on every rank; if it threw on any of them, all ranks throw one AgreedError with the
  /// code and message of the lowest rank that failed. `set_up` must not contain collective calls.
  void agree_on_error(const std::function<void()>& set_up);

 protected:
  void set_places(std::vector<RankPlace> places) { places_ = std::move(places); }

 private:
  std::vector<RankPlace> places_;  // [size]
};

/// Name of this machine.
std::string host_name();

/// Rank 0 of 1; never calls MPI.
class NullCommunicator final : public Communicator {
 public:
  NullCommunicator();
  int rank() const override { return 0; }
  int size() const override { return 1; }
  void barrier() override {}
  std::vector<std::string> all_gather(std::string_view mine) override { return {std::string(mine)}; }
  std::string broadcast(std::string_view value, int) override { return std::string(value); }
};

}  // namespace flexgen

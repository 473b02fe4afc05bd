#include "comm/mpi_communicator.hpp"

#include <mpi.h>

#include <climits>
#include <numeric>
#include <sstream>

#include "comm/mpi_error.hpp"

namespace flexgen {
namespace {

/// A collective in one or more phases, each a non-blocking MPI call: the rank's transfers go on meanwhile.
class CollectiveTask : public ProgressTask {
 public:
  CollectiveTask(MPI_Comm comm, const std::string& who) : comm_(comm), who_(who) {}

 protected:
  /// Starts the next phase into `request`; false when there is none left.
  virtual bool start_phase(MPI_Request* request) = 0;
  void check(int code, std::string_view call) const { check_mpi(code, call, who_); }

  MPI_Comm comm_;

 private:
  Step step() override {
    for (;;) {
      if (request_ != MPI_REQUEST_NULL) {
        int completed = 0;
        check(MPI_Test(&request_, &completed, MPI_STATUS_IGNORE), "MPI_Test of a collective");
        if (!completed) return Step::waiting;
      }
      if (!start_phase(&request_)) return Step::finished;
    }
  }

  const std::string& who_;
  MPI_Request request_ = MPI_REQUEST_NULL;
};

class BarrierTask final : public CollectiveTask {
 public:
  using CollectiveTask::CollectiveTask;

 private:
  bool start_phase(MPI_Request* request) override {
    if (started_) return false;
    started_ = true;
    check(MPI_Ibarrier(comm_, request), "MPI_Ibarrier");
    return true;
  }
  bool started_ = false;
};

class GatherTask final : public CollectiveTask {
 public:
  GatherTask(MPI_Comm comm, const std::string& who, std::string_view mine, int num_ranks)
      : CollectiveTask(comm, who), mine_(mine), counts_(static_cast<std::size_t>(num_ranks)) {}

  std::vector<std::string> result() const {
    std::vector<std::string> values;
    for (std::size_t r = 0; r < counts_.size(); ++r)
      values.emplace_back(bytes_.data() + offsets_[r], static_cast<std::size_t>(counts_[r]));
    return values;
  }

 private:
  bool start_phase(MPI_Request* request) override {
    switch (phase_++) {
      case 0:
        FLEXGEN_CHECK(mine_.size() <= INT_MAX, "too long for a gather");
        my_count_ = static_cast<int>(mine_.size());
        check(MPI_Iallgather(&my_count_, 1, MPI_INT, counts_.data(), 1, MPI_INT, comm_, request), "MPI_Iallgather");
        return true;
      case 1: {
        const auto total = std::accumulate(counts_.begin(), counts_.end(), std::int64_t{0});
        FLEXGEN_CHECK(total <= INT_MAX, "too long for a gather");
        offsets_.resize(counts_.size());
        std::exclusive_scan(counts_.begin(), counts_.end(), offsets_.begin(), 0);
        bytes_.resize(static_cast<std::size_t>(total));
        check(MPI_Iallgatherv(mine_.data(), my_count_, MPI_BYTE, bytes_.data(), counts_.data(), offsets_.data(),
                              MPI_BYTE, comm_, request),
              "MPI_Iallgatherv");
        return true;
      }
      default: return false;
    }
  }

  const std::string mine_;
  std::vector<int> counts_;   // [ranks] bytes
  std::vector<int> offsets_;  // [ranks] into bytes_
  std::string bytes_;
  int my_count_ = 0;
  int phase_ = 0;
};

class BroadcastTask final : public CollectiveTask {
 public:
  BroadcastTask(MPI_Comm comm, const std::string& who, std::string_view value, int root, bool is_root)
      : CollectiveTask(comm, who), root_(root) {
    if (is_root) value_ = value;
    length_ = value_.size();
  }
  std::string result() const { return value_; }

 private:
  bool start_phase(MPI_Request* request) override {
    switch (phase_++) {
      case 0: check(MPI_Ibcast(&length_, 1, MPI_UINT64_T, root_, comm_, request), "MPI_Ibcast"); return true;
      case 1:
        FLEXGEN_CHECK(length_ <= INT_MAX, "too long for a broadcast");
        value_.resize(length_);
        check(MPI_Ibcast(value_.data(), static_cast<int>(length_), MPI_BYTE, root_, comm_, request), "MPI_Ibcast");
        return true;
      default: return false;
    }
  }

  const int root_;
  std::string value_;
  std::uint64_t length_ = 0;
  int phase_ = 0;
};

class MpiCommunicator final : public Communicator {
 public:
  explicit MpiCommunicator(MpiProgress& progress) : progress_(progress) {
    int node = 0, local_rank = 0, local_size = 1;
    progress_.call([&] {
      check(MPI_Comm_dup(MPI_COMM_WORLD, &comm_), "MPI_Comm_dup");
      check(MPI_Comm_rank(comm_, &rank_), "MPI_Comm_rank");
      check(MPI_Comm_size(comm_, &size_), "MPI_Comm_size");
      MPI_Comm shared = MPI_COMM_NULL;
      check(MPI_Comm_split_type(comm_, MPI_COMM_TYPE_SHARED, rank_, MPI_INFO_NULL, &shared), "MPI_Comm_split_type");
      check(MPI_Comm_rank(shared, &local_rank), "MPI_Comm_rank");
      check(MPI_Comm_size(shared, &local_size), "MPI_Comm_size");
      node = rank_;
      check(MPI_Bcast(&node, 1, MPI_INT, 0, shared), "MPI_Bcast");
      check(MPI_Comm_free(&shared), "MPI_Comm_free");
    });
    std::ostringstream mine;
    mine << node << ' ' << local_rank << ' ' << local_size << ' ' << host_name();
    std::vector<RankPlace> places;
    for (const std::string& text : all_gather(mine.str())) {
      std::istringstream fields(text);
      RankPlace place;
      fields >> place.node >> place.local_rank >> place.local_size >> place.host;
      places.push_back(std::move(place));
    }
    set_places(std::move(places));
  }

  ~MpiCommunicator() override {
    progress_.call([this] { MPI_Comm_free(&comm_); });
  }

  int rank() const override { return rank_; }
  int size() const override { return size_; }

  void barrier() override { complete(std::make_shared<BarrierTask>(comm_, progress_.who())); }

  std::vector<std::string> all_gather(std::string_view mine) override {
    return complete(std::make_shared<GatherTask>(comm_, progress_.who(), mine, size_))->result();
  }

  std::string broadcast(std::string_view value, int root) override {
    return complete(std::make_shared<BroadcastTask>(comm_, progress_.who(), value, root, rank_ == root))->result();
  }

 private:
  void check(int code, std::string_view call) const { check_mpi(code, call, progress_.who()); }

  template <class Task>
  std::shared_ptr<Task> complete(std::shared_ptr<Task> task) {
    progress_.submit(task);
    progress_.wait(*task);
    return task;
  }

  MpiProgress& progress_;
  MPI_Comm comm_ = MPI_COMM_NULL;
  int rank_ = 0;
  int size_ = 1;
};

}  // namespace

std::unique_ptr<Communicator> make_mpi_communicator(MpiProgress& progress) {
  return std::make_unique<MpiCommunicator>(progress);
}

}  // namespace flexgen

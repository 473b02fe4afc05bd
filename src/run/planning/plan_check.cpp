#include "run/planning/plan_check.hpp"

#include <algorithm>
#include <cmath>
#include <memory>
#include <numeric>
#include <utility>
#include <vector>

namespace flexgen {
namespace {

// Of the longest use's seconds, how many a use must have to count among those that bind.
constexpr double binding_share = 0.5;
// Rates that differ by more than this are no rates of the same machine.
constexpr double most_factor = 4096;
// One explanation is better than another where it leaves less than this part of the other's squares.
constexpr double clearly_better = 0.8;

double occupied(const TotalsByResource& used, Resource resource) {
  return static_cast<double>(used[static_cast<std::size_t>(resource)].occupied_ns) * 1e-9;
}

double moved(const TotalsByResource& used, Resource resource) {
  return static_cast<double>(used[static_cast<std::size_t>(resource)].bytes);
}

double rate_of(const Ceilings& c, Ceiling ceiling) {
  switch (ceiling) {
    case Ceiling::matrix: return c.matrix_operations;
    case Ceiling::gpu_memory: return c.gpu_memory_bytes;
    case Ceiling::host_to_gpu: return c.host_to_gpu_bytes;
    case Ceiling::gpu_to_host: return c.gpu_to_host_bytes;
    case Ceiling::both_directions: return c.both_directions_bytes;
    case Ceiling::host_memory: return c.host_read_bytes;
    case Ceiling::disk: return c.disk_read_bytes;
    case Ceiling::network: break;
  }
  return c.network_bytes;
}

// What is done in one time: a stream, or a direction of a link.
struct Use {
  Ceiling ceiling{};
  double predicted = 0;  // seconds
  double measured = 0;
  double factor = 1;  // measured rate over the profile's
};

// Arithmetic, and the memory of the device that computes.
class Computing {
 public:
  Computing(const StageInput& stage, const SeenSweeps& sweeps)
      : stage_(stage), sweeps_(sweeps), cost_(stage_), given_(stage) {
    // A GPU that waits for the host's attention is not busy.
    if (stage.plan.on_gpu) stage_.ceilings.host_read_bytes = 0;
    given_ = stage_;
    for (const TotalsByResource& used : sweeps.used) measured_ += busy(used);
  }
  Computing(const Computing&) = delete;
  Computing& operator=(const Computing&) = delete;

  Use use() {
    Use use{Ceiling::matrix, predicted(), measured_};
    const std::optional<Fit> matrix = fit(Ceiling::matrix), memory = fit(memory_ceiling());
    const auto change = [](const std::optional<Fit>& fit) { return std::abs(std::log(fit->factor)); };
    bool is_memory = !matrix;
    if (matrix && memory) {
      if (memory->squares < clearly_better * matrix->squares) is_memory = true;
      else if (matrix->squares >= clearly_better * memory->squares) is_memory = change(memory) < change(matrix);
    }
    if (const std::optional<Fit>& best = is_memory ? memory : matrix) {
      use.ceiling = is_memory ? memory_ceiling() : Ceiling::matrix;
      use.factor = best->factor;
    }
    return use;
  }

 private:
  struct Fit {
    double factor = 1;
    double squares = 0;  // of what each phase is off
  };

  Ceiling memory_ceiling() const { return stage_.plan.on_gpu ? Ceiling::gpu_memory : Ceiling::host_memory; }

  // On a host copies between its tiers are the processors' work, too.
  double busy(const TotalsByResource& used) const {
    const double compute = occupied(used, Resource::compute);
    if (stage_.plan.on_gpu) return compute;
    const double copies = occupied(used, Resource::host_to_gpu) + occupied(used, Resource::gpu_to_host);
    return stage_.plan.policy.overlap ? std::max(compute, copies) : compute + copies;
  }

  double predicted(const SeenSweep& sweep) const {
    const Needs needs = cost_.needs(sweep.kinds);
    return needs[static_cast<std::size_t>(Ceiling::matrix)].seconds +
           needs[static_cast<std::size_t>(memory_ceiling())].seconds;
  }

  std::array<double, num_trace_phases> predicted_by_phase() const {
    std::array<double, num_trace_phases> phases{};
    for (const SeenSweep& sweep : sweeps_.each) phases[static_cast<std::size_t>(sweep.phase())] += predicted(sweep);
    return phases;
  }

  double predicted() const {
    const std::array<double, num_trace_phases> phases = predicted_by_phase();
    return std::accumulate(phases.begin(), phases.end(), 0.0);
  }

  void restore() {
    stage_.ceilings = given_.ceilings;
    stage_.rates = given_.rates;
  }

  double predicted_with(Ceiling ceiling, double factor) {
    restore();
    scale_ceiling(stage_, ceiling, factor);
    return predicted();
  }

  // By halving: the faster the ceiling, the less time.
  std::optional<Fit> fit(Ceiling ceiling) {
    double slow = 1 / most_factor, fast = most_factor;
    Fit found;
    if (predicted_with(ceiling, slow) >= measured_ && predicted_with(ceiling, fast) <= measured_) {
      for (int step = 0; step < 24; ++step) {
        found.factor = std::sqrt(slow * fast);
        (predicted_with(ceiling, found.factor) > measured_ ? slow : fast) = found.factor;
      }
      const std::array<double, num_trace_phases> phases = predicted_by_phase();
      for (std::size_t p = 0; p < phases.size(); ++p) found.squares += std::pow(phases[p] - busy(sweeps_.used[p]), 2);
    } else {
      found.factor = 0;
    }
    restore();
    return found.factor > 0 ? std::optional(found) : std::nullopt;
  }

  StageInput stage_;  // its ceilings are tried out
  const SeenSweeps& sweeps_;
  SweepCost cost_;
  StageInput given_;
  double measured_ = 0;
};

// What single streams do: a link's directions, the disk, and a host that attends beside a GPU.
class Streams {
 public:
  Streams(const StageInput& stage, const Needs& needs, const TotalsByResource& used)
      : stage_(stage), needs_(needs), used_(used) {}

  std::vector<Use> uses() {
    if (stage_.plan.on_gpu) add_links();
    add_attention();
    add_disk();
    return std::move(uses_);
  }

 private:
  void add(Ceiling ceiling, double seconds, double bytes) {
    const Need& need = needs_[static_cast<std::size_t>(ceiling)];
    if (need.seconds <= 0 || seconds <= 0 || bytes <= 0) return;
    uses_.push_back({ceiling, need.seconds, seconds, bytes / seconds / (need.amount / need.seconds)});
  }

  // Where both directions together bind, neither has a rate of its own.
  void add_links() {
    const double to = occupied(used_, Resource::host_to_gpu), from = occupied(used_, Resource::gpu_to_host);
    const double to_bytes = moved(used_, Resource::host_to_gpu), from_bytes = moved(used_, Resource::gpu_to_host);
    const auto seconds = [&](Ceiling ceiling) { return needs_[static_cast<std::size_t>(ceiling)].seconds; };
    if (seconds(Ceiling::both_directions) > std::max(seconds(Ceiling::host_to_gpu), seconds(Ceiling::gpu_to_host))) {
      add(Ceiling::both_directions, std::max(to, from), to_bytes + from_bytes);
      return;
    }
    add(Ceiling::host_to_gpu, to, to_bytes);
    add(Ceiling::gpu_to_host, from, from_bytes);
  }

  void add_attention() {
    const double seconds = occupied(used_, Resource::host_attention), bytes = moved(used_, Resource::host_attention);
    const double rate = stage_.ceilings.host_read_bytes;
    if (seconds > 0 && bytes > 0 && rate > 0)
      uses_.push_back({Ceiling::host_memory, bytes / rate, seconds, bytes / seconds / rate});
  }

  // Reads and writes that mix share a time that nobody has measured.
  void add_disk() {
    const double read = occupied(used_, Resource::disk_read), write = occupied(used_, Resource::disk_write);
    if (std::min(read, write) > 0.2 * std::max(read, write)) return;
    add(Ceiling::disk, read + write, moved(used_, Resource::disk_read) + moved(used_, Resource::disk_write));
  }

  const StageInput& stage_;
  const Needs& needs_;
  const TotalsByResource& used_;
  std::vector<Use> uses_;
};

struct Sums {
  Needs needs{};
  TotalsByResource used{};
  double predicted = 0;  // seconds of whole sweeps
  double measured = 0;
};

Sums sum_up(const StageInput& stage, const SeenSweeps& sweeps) {
  const SweepCost cost(stage);
  Sums sums;
  for (const TotalsByResource& used : sweeps.used)
    for (std::size_t r = 0; r < num_resources; ++r) {
      sums.used[r].occupied_ns += used[r].occupied_ns;
      sums.used[r].bytes += used[r].bytes;
    }
  for (const SeenSweep& sweep : sweeps.each) {
    const Needs needs = cost.needs(sweep.kinds);
    for (std::size_t c = 0; c < num_ceilings; ++c) {
      sums.needs[c].seconds += needs[c].seconds;
      sums.needs[c].amount += needs[c].amount;
    }
    sums.predicted += sweep_seconds(needs, stage);
    sums.measured += sweep.seconds;
  }
  return sums;
}

// Of one stage among several, which waits for the others: what it does itself.
double own_seconds(const std::vector<Use>& uses, double Use::*seconds, bool overlap) {
  double longest = 0, sum = 0;
  for (const Use& use : uses) {
    longest = std::max(longest, use.*seconds);
    sum += use.*seconds;
  }
  return overlap ? longest : sum;
}

// The use that is farthest off, in the direction in which all is off.
const Use* culprit(const std::vector<Use>& uses, const PlanFinding& finding, bool overlap) {
  const double binds = overlap ? binding_share : 0;
  const double longest_predicted = own_seconds(uses, &Use::predicted, true);
  const double longest_measured = own_seconds(uses, &Use::measured, true);
  const bool is_slow = finding.measured_seconds > finding.predicted_seconds;
  const Use* farthest = nullptr;
  for (const Use& use : uses) {
    if (use.predicted < binds * longest_predicted && use.measured < binds * longest_measured) continue;
    if (!differ(use.factor, 1) || (use.factor < 1) != is_slow) continue;
    if (!farthest || std::abs(std::log(use.factor)) > std::abs(std::log(farthest->factor))) farthest = &use;
  }
  return farthest;
}

}  // namespace

bool differ(double one, double other) {
  return one > 0 && other > 0 && std::abs(std::log(one / other)) > std::log1p(plan_tolerance);
}

std::array<SweepRows, 2> rows_of(const SweepWork& work) {
  std::array<SweepRows, 2> kinds{};
  for (SweepRows& kind : kinds) kind.outputs = 0;
  for (const MicroBatchWork& batch : work.micro_batches)
    for (const RowWork& row : batch.rows) {
      SweepRows& kind = kinds[row.reads_prompt ? 0 : 1];
      const double count = row.count();
      kind.start += row.reads_prompt ? row.start * count : row.start;
      kind.count += count;
      kind.outputs += row.num_outputs();
      kind.rows += 1;
    }
  for (std::size_t k = 0; k < kinds.size(); ++k) {
    SweepRows& kind = kinds[k];
    kind.micro_batches = static_cast<double>(work.micro_batches.size());
    if (kind.rows == 0) continue;
    kind.start /= k == 0 ? kind.count : kind.rows;
    kind.outputs /= kind.rows;
    kind.count /= kind.rows;
  }
  return kinds;
}

TracePhase SeenSweep::phase() const {
  if (kinds[1].rows == 0) return TracePhase::prefill;
  return kinds[0].rows == 0 ? TracePhase::decode : TracePhase::mixed;
}

PlanFinding check_plan(const StageInput& stage, const SeenSweeps& sweeps) {
  const bool overlap = stage.plan.policy.overlap;
  const Sums sums = sum_up(stage, sweeps);
  std::vector<Use> uses = Streams(stage, sums.needs, sums.used).uses();
  uses.push_back(Computing(stage, sweeps).use());
  PlanFinding finding{sweeps.each.size(), sums.predicted, sums.measured, std::nullopt};
  if (sums.measured <= 0) {
    finding.predicted_seconds = own_seconds(uses, &Use::predicted, overlap);
    finding.measured_seconds = own_seconds(uses, &Use::measured, overlap);
  }
  if (!finding.differs()) return finding;
  if (const Use* wrong = culprit(uses, finding, overlap)) {
    const double rate = rate_of(stage.ceilings, wrong->ceiling);
    if (rate > 0) finding.wrong = {wrong->ceiling, rate, wrong->factor * rate};
  }
  return finding;
}

namespace {

void scale_rates(StageInput& stage, Ceiling ceiling, double factor) {
  if (!stage.rates || (ceiling != Ceiling::matrix && ceiling != Ceiling::host_memory)) return;
  auto rates = std::make_shared<StageRates>(*stage.rates);
  OpCosts& device = rates->device;
  if (ceiling == Ceiling::matrix) {
    for (RateTable* products : {&device.plain_products, &device.coded_products, &device.byte_products})
      products->scale(factor);
  } else {  // what processors do beside products: without a GPU their memory's time
    OpCosts& host = rates->host;
    for (RateCurve* curve : {&host.cache_reads, &host.cache_writes, &host.prompts}) curve->scale(factor);
    host.norms.scale(factor);
  }
  stage.rates = std::move(rates);
}

}  // namespace

void scale_ceiling(StageInput& stage, Ceiling ceiling, double factor) {
  scale_rates(stage, ceiling, factor);
  Ceilings& c = stage.ceilings;
  switch (ceiling) {
    case Ceiling::matrix:
      c.matrix_operations *= factor;
      for (TokenRate& rate : c.products) rate.operations *= factor;
      break;
    case Ceiling::gpu_memory: c.gpu_memory_bytes *= factor; break;
    case Ceiling::host_to_gpu: c.host_to_gpu_bytes *= factor; break;
    case Ceiling::gpu_to_host: c.gpu_to_host_bytes *= factor; break;
    case Ceiling::both_directions: c.both_directions_bytes *= factor; break;
    case Ceiling::host_memory:
      c.host_read_bytes *= factor;
      c.host_copy_bytes *= factor;
      break;
    case Ceiling::disk:
      c.disk_read_bytes *= factor;
      c.disk_write_bytes *= factor;
      break;
    case Ceiling::network: c.network_bytes *= factor; break;
  }
}

}  // namespace flexgen

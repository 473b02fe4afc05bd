#include "batch/batch_driver.hpp"

#include <algorithm>
#include <exception>
#include <span>
#include <utility>

#include "base/error.hpp"
#include "base/trace.hpp"
#include "batch/output_reader.hpp"
#include "batch/sweep_building.hpp"

namespace flexgen {
namespace {

// The first thing that rows or callbacks have thrown; they are not asked again. An InternalError passes: nobody knows
// whether anything can still be ended in order.
class Fault {
 public:
  template <class Step>
  void unless_there(const Step& step) {
    if (thrown_) return;
    try {
      step();
    } catch (const InternalError&) {
      throw;
    } catch (...) {
      thrown_ = std::current_exception();
    }
  }
  void rethrow() const {
    if (thrown_) std::rethrow_exception(thrown_);
  }

 private:
  std::exception_ptr thrown_;
};

}  // namespace

BatchDriver::BatchDriver(SweepRunner& runner, const BlockShape& shape, const BlockLimits& limits,
                         std::vector<std::int32_t> eos_tokens)
    : runner_(runner),
      least_tokens_(shape.micro_batch_size),
      most_tokens_(limits.num_tokens),
      num_tokens_(limits.num_tokens),
      eos_tokens_(std::move(eos_tokens)),
      beginnings_(shape.num_prefixes > 0 ? Beginnings::compared : Beginnings::ignored),
      admission_(shape, limits) {
  const auto num_slots = static_cast<std::size_t>(shape.num_micro_batches);
  FLEXGEN_CHECK(limits.slots.size() == num_slots * static_cast<std::size_t>(shape.num_groups) &&
                    limits.num_tokens >= shape.micro_batch_size,
                "the limits of a block are not of its shape");
  for (std::int32_t g = 0; g < shape.num_groups; ++g) {
    const std::int32_t first_slot = g * shape.num_micro_batches;
    const auto spaces = std::span(limits.slots).subspan(static_cast<std::size_t>(first_slot), num_slots);
    groups_.push_back({Block(first_slot, shape.micro_batch_size, spaces, shape.num_prefixes), {}});
    groups_.back().work.group = GroupId(g);
  }
  in_flight_.resize(groups_.size());
  for (const CacheSpace& space : limits.slots) cache_use_.num_positions += space.num_positions();
}

void BatchDriver::limit_tokens(std::int32_t num_tokens) {
  FLEXGEN_CHECK(least_tokens_ <= num_tokens && num_tokens <= most_tokens_, "no stage has room for so many tokens");
  num_tokens_ = num_tokens;
  admission_.limit_tokens(num_tokens);
}

// Another sweep follows the one being made, unless its rows stop before: its first weights may be loaded early.
bool BatchDriver::anything_follows(WaitingRows& waiting) const {
  return waiting.any() || std::ranges::any_of(groups_, [](const Group& group) { return group.block.wants_more(); });
}

// The group's next sweep. False when it has no rows and none wait.
bool BatchDriver::make_work(Group& group, WaitingRows& waiting) {
  admission_.admit(group.block, waiting, in_flight_);
  in_flight_[group.work.group.index()] = group.block.num_sequences();
  count_held();
  group.work.micro_batches = build_micro_batches(group.block, num_tokens_);
  if (group.work.micro_batches.empty()) return false;
  group.work.number = num_sweeps_++;
  group.work.more_follow = anything_follows(waiting);
  return true;
}

void BatchDriver::count_held() {
  std::int64_t held = 0;
  for (const Group& group : groups_) held += group.block.num_held();
  cache_use_.most_held = std::max(cache_use_.most_held, held);
}

void BatchDriver::count_time(const SweepWork& work) {
  const std::uint64_t now = now_ns();
  const double seconds = static_cast<double>(now - last_ns_) / 1e9;
  last_ns_ = now;
  const std::int64_t prompt_tokens = work.num_prompt_tokens();
  const std::int64_t decode_tokens = work.num_decode_tokens();
  SweepTotals& totals = decode_tokens == 0 ? times_.prefill : prompt_tokens == 0 ? times_.decode : times_.mixed;
  totals.seconds += seconds;
  ++totals.num_sweeps;
  for (const MicroBatchWork& batch : work.micro_batches) {
    totals.num_rows += std::ranges::count_if(batch.rows, [](const RowWork& row) { return row.row != no_row; });
    count_saved(batch);
  }
  totals.num_prompt_tokens += prompt_tokens;
  totals.num_decode_tokens += decode_tokens;
}

// A row that begins to read behind what it shares has saved that; what was read for all of them has cost as much.
void BatchDriver::count_saved(const MicroBatchWork& batch) {
  for (const RowWork& row : batch.rows) {
    if (row.row == no_row) num_saved_tokens_ -= row.count();
    else if (row.reads_prompt && row.start == row.own_begin()) num_saved_tokens_ += row.start;
  }
}

void BatchDriver::run(RowSource& rows, const RowCallbacks& callbacks) {
  WaitingRows waiting(rows, admission_.window(), beginnings_);
  const OutputReader outputs(eos_tokens_, callbacks);
  last_ns_ = now_ns();
  bool is_stopped = false;
  Fault fault;  // of rows or callbacks
  for (bool any = true; any;) {
    any = false;
    // In turn: collect a group's tokens, then send it on its way again, while the other groups are on theirs.
    for (Group& group : groups_) {
      if (std::exchange(group.in_flight, false)) {
        const std::vector<SampledTokens> sampled = runner_.collect(group.work.micro_batches.size());
        fault.unless_there([&] { outputs.take(group.work, sampled, group.block); });
        in_flight_[group.work.group.index()] = group.block.num_sequences();
        count_time(group.work);
      }
      fault.unless_there([&] {
        is_stopped = is_stopped || (callbacks.on_sweep && !callbacks.on_sweep());
        group.in_flight = !is_stopped && make_work(group, waiting);
      });
      if (group.in_flight) runner_.run(group.work);
      any = any || group.in_flight;
    }
  }
  runner_.finish();
  fault.rethrow();
  FLEXGEN_CHECK(is_stopped || !waiting.any(), "a row waits that no micro-batch has room for");
}

}  // namespace flexgen

#include "batch/batch_driver.hpp"

#include <algorithm>
#include <utility>

#include "base/trace.hpp"
#include "batch/admission.hpp"
#include "batch/output_reader.hpp"
#include "batch/sweep_building.hpp"

namespace flexgen {

BatchDriver::BatchDriver(SweepRunner& runner, const BlockShape& shape, BlockLimits limits,
                         std::vector<std::int32_t> eos_tokens)
    : runner_(runner), shape_(shape), limits_(std::move(limits)), eos_tokens_(std::move(eos_tokens)) {
  for (std::int32_t g = 0; g < shape_.num_groups; ++g) {
    Group& group = groups_.emplace_back(Group{
        Block(g * shape_.num_micro_batches, limits_.slots.front().num_positions() / shape_.micro_batch_size), {}});
    group.work.group = GroupId(g);
  }
}

std::int64_t BatchDriver::num_idle() const {
  return std::ranges::count_if(groups_, [](const Group& group) { return group.block.is_empty(); });
}

// Another sweep certainly or probably follows the one being made: its first weights may be loaded early.
bool BatchDriver::anything_follows(const Group& group, WaitingRows& waiting) const {
  if (waiting.any() || group.block.wants_more()) return true;
  return std::ranges::any_of(groups_, [&](const Group& other) { return &other != &group && other.in_flight; });
}

// The group's next sweep. False when it has no rows and none wait.
bool BatchDriver::make_work(Group& group, WaitingRows& waiting) {
  admit_rows(group.block, waiting, shape_, num_idle());
  group.work.micro_batches = build_micro_batches(group.block);
  if (group.work.micro_batches.empty()) return false;
  group.work.number = num_sweeps_++;
  group.work.more_follow = anything_follows(group, waiting);
  return true;
}

void BatchDriver::count_time(const SweepWork& work) {
  const std::uint64_t now = now_ns();
  const double seconds = static_cast<double>(now - last_ns_) / 1e9;
  last_ns_ = now;
  const bool is_prefill = work.num_prompt_tokens() > 0;
  (is_prefill ? times_.prefill_seconds : times_.decode_seconds) += seconds;
  ++(is_prefill ? times_.num_prefill_sweeps : times_.num_decode_sweeps);
}

void BatchDriver::run(RowSource& rows, const RowCallbacks& callbacks) {
  WaitingRows waiting(rows);
  const OutputReader outputs(eos_tokens_, callbacks);
  last_ns_ = now_ns();
  bool any = true;
  while (any) {
    any = false;
    // In turn: collect a group's tokens, then send it on its way again, while the other groups are on theirs.
    for (Group& group : groups_) {
      if (group.in_flight) {
        outputs.take(group.work, runner_.collect(group.work.micro_batches.size()), group.block);
        count_time(group.work);
      }
      group.in_flight = make_work(group, waiting);
      if (group.in_flight) runner_.run(group.work);
      any = any || group.in_flight;
    }
  }
  runner_.finish();
}

}  // namespace flexgen

#include "run/watch/first_sweeps.hpp"

#include <utility>

namespace flexgen {
namespace {

constexpr std::size_t least_sweeps = 4;
constexpr std::size_t most_sweeps = 1000;
constexpr double least_seconds = 5;
constexpr double share_of_job = 0.1;

}  // namespace

FirstSweeps::FirstSweeps(const Tracer& tracer, const JobShape& job)
    : tracer_(tracer),
      decodes_(job.max_new_tokens > 1),
      tenth_(share_of_job * static_cast<double>(job.prompt_tokens + job.new_tokens)) {
  sweeps_.reserve(most_sweeps);
}

void FirstSweeps::begin(const SweepWork& work) {
  begin_ns_ = now_ns();
  if (sweeps_.empty()) first_ns_ = begin_ns_;
  SeenSweep& sweep = sweeps_.emplace_back();
  sweep.kinds = rows_of(work);
  for (const SweepRows& kind : sweep.kinds) num_tokens_ += kind.tokens();
  if (sweep.kinds[1].rows > 0) ++num_decoding_;
}

void FirstSweeps::end() {
  if (!sweeps_.empty()) sweeps_.back().seconds = seconds_since(begin_ns_);
}

bool FirstSweeps::are_enough() const {
  if (sweeps_.size() < least_sweeps) return false;
  if (sweeps_.size() == most_sweeps || num_tokens_ >= tenth_) return true;
  const bool have_decoded = !decodes_ || num_decoding_ >= static_cast<std::int64_t>(least_sweeps);
  return have_decoded && seconds_since(first_ns_) >= least_seconds;
}

SeenSweeps FirstSweeps::take() {
  SeenSweeps seen;
  if (sweeps_.size() < least_sweeps) return seen;
  seen.each = std::exchange(sweeps_, {});
  for (const TracePhase phase : {TracePhase::prefill, TracePhase::decode, TracePhase::mixed})
    seen.used[static_cast<std::size_t>(phase)] = tracer_.totals(phase);
  return seen;
}

}  // namespace flexgen

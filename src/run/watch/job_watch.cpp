#include "run/watch/job_watch.hpp"

#include <algorithm>
#include <chrono>
#include <utility>

#include "base/thread_role.hpp"
#include "base/trace.hpp"
#include "job/metrics_text.hpp"

namespace flexgen {
namespace {

constexpr double tick_seconds = 0.2;  // or what the series asks for, where that is less
constexpr double publish_seconds = 1;
constexpr double energy_seconds = 10;

void add_totals(TotalsByResource& sum, const TotalsByResource& more) {
  for (std::size_t i = 0; i < sum.size(); ++i) {
    sum[i].busy_ns += more[i].busy_ns;
    sum[i].bytes += more[i].bytes;
    sum[i].count += more[i].count;
    sum[i].occupied_ns += more[i].occupied_ns;
  }
}

TierFigures tier_figures(const TierBudget& budget) {
  return {budget.capacity_bytes(), budget.used_bytes(), budget.peak_bytes()};
}

}  // namespace

JobWatch::JobWatch(Stage& stage, WatchedJob job)
    : stage_(&stage),
      job_(std::move(job)),
      begin_ns_(now_ns()),
      display_(ProgressDisplay::to_stderr(!job_.is_shown)),
      figures_(job_.begin),
      energy_(EnergyMeter::of(stage.device())) {
  figures_.phase = JobPhase::running;
  read(0);
  thread_ = std::thread([this] { watch(); });
}

JobWatch::~JobWatch() {
  if (!thread_.joinable()) return;
  stop();
  display_.leave();
}

double JobWatch::seconds() const { return static_cast<double>(now_ns() - begin_ns_) * 1e-9; }

void JobWatch::watch() {
  const ThreadRole role(observer_role);
  std::unique_lock lock(mutex_);
  while (!is_over_) {
    const std::chrono::duration<double> pause(std::min(tick_seconds, activity_.interval_seconds()));
    if (changed_.wait_for(lock, pause, [this] { return is_over_; })) return;
    lock.unlock();
    const double now = seconds();
    read(now);
    display_.show(figures_, now);
    lock.lock();
  }
}

void JobWatch::read(double seconds) {
  figures_.run_seconds = seconds;
  read_stage();
  if (job_.counts) figures_.counts = job_.counts->values();
  pace_.add(seconds, figures_.counts.tokens, figures_.resources);
  figures_.recent_tokens_per_second = pace_.tokens_per_second();
  const auto busiest = pace_.busiest();
  figures_.busiest = busiest ? std::optional(busiest->resource) : std::nullopt;
  figures_.busiest_fraction = busiest ? busiest->fraction : 0;
  if (activity_.is_due(seconds))
    activity_.add(seconds, figures_.resources, figures_.counts.rows, figures_.counts.tokens);
  if (seconds >= due_.energy_seconds) {
    due_.energy_seconds = seconds + energy_seconds;
    energy_.read();
  }
  if (seconds >= due_.publish_seconds) publish();
}

void JobWatch::read_stage() {
  const std::lock_guard lock(stage_mutex_);
  figures_.resources = earlier_;
  if (!stage_) return;
  add_totals(figures_.resources, stage_->tracer().totals());
  figures_.tiers = {tier_figures(stage_->budget(TierKind::gpu)), tier_figures(stage_->budget(TierKind::dram)),
                    tier_figures(stage_->budget(TierKind::ssd))};
}

void JobWatch::leave_stage() {
  const std::lock_guard lock(stage_mutex_);
  add_totals(earlier_, stage_->tracer().totals());
  stage_ = nullptr;
}

void JobWatch::follow(Stage& stage) {
  const std::lock_guard lock(stage_mutex_);
  stage_ = &stage;
}

void JobWatch::publish() {
  due_.publish_seconds = figures_.run_seconds + publish_seconds;
  if (job_.server) job_.server->publish(metrics_text(figures_));
}

void JobWatch::stop() {
  {
    const std::lock_guard lock(mutex_);
    is_over_ = true;
  }
  changed_.notify_all();
  thread_.join();
}

WatchReport JobWatch::finish() {
  stop();
  const double end_seconds = seconds();
  due_.energy_seconds = 0;
  read(end_seconds);
  activity_.end(end_seconds, figures_.resources, figures_.counts.rows, figures_.counts.tokens);
  figures_.phase = JobPhase::done;
  publish();
  display_.finish(figures_);
  return {activity_.report(), energy_.report(job_.host)};
}

}  // namespace flexgen

// Watches a rank while its job runs: a thread that reads counters some times a second, shows the progress line, renews
// the metrics, and keeps how busy resources were. The engine's path knows nothing of it.
//
// Refers to the stage, the counts and the server. One thread calls it. A job of several passes has a stage for each.
#pragma once

#include <condition_variable>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "base/fields.hpp"
#include "base/trace.hpp"
#include "engine/stage.hpp"
#include "job/activity.hpp"
#include "job/live_figures.hpp"
#include "job/progress.hpp"
#include "job/recent_pace.hpp"
#include "job/report.hpp"
#include "run/watch/energy_meter.hpp"
#include "run/watch/metrics_server.hpp"

namespace flexgen {

/// What is seen of the job: rank 0 alone has the last three.
struct WatchedJob {
  std::string host;
  LiveFigures begin;                   // what does not change
  const LiveCounts* counts = nullptr;  // null: no rows and tokens are known here
  MetricsServer* server = nullptr;     // null: no metrics
  bool is_shown = false;               // the progress line
};

/// What one rank has seen.
struct WatchReport {
  ActivityReport activity;
  std::vector<EnergyReport> energy;
  static constexpr auto fields() {
    return std::tuple(field("activity", &WatchReport::activity), field("energy", &WatchReport::energy));
  }
};

class JobWatch {
 public:
  /// The run's time begins. The stage is not loading any more.
  JobWatch(Stage& stage, WatchedJob job);
  /// Of a run that went wrong: ends the thread, and leaves the terminal's line.
  ~JobWatch();
  JobWatch(const JobWatch&) = delete;
  JobWatch& operator=(const JobWatch&) = delete;

  /// The pass is over; its stage may go.
  void leave_stage();
  /// The next pass has begun.
  void follow(Stage& stage);

  /// The run is over: takes the last readings and shows how it ended. Once.
  WatchReport finish();

 private:
  void watch();
  void read(double seconds);
  void read_stage();
  void stop();
  double seconds() const;
  void publish();

  /// On the time of the run.
  struct Due {
    double publish_seconds = 0, energy_seconds = 0;
  };

  std::mutex stage_mutex_;
  Stage* stage_;                // null: between passes
  TotalsByResource earlier_{};  // of the stages that are gone
  WatchedJob job_;
  std::uint64_t begin_ns_;
  ProgressDisplay display_;
  LiveFigures figures_;
  RecentPace pace_;
  ActivitySeries activity_;
  EnergyMeter energy_;
  Due due_;
  std::mutex mutex_;
  std::condition_variable changed_;
  bool is_over_ = false;
  std::thread thread_;  // has the above to itself while it runs, but for what the mutexes guard
};

}  // namespace flexgen

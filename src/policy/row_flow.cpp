#include "policy/row_flow.hpp"

#include <algorithm>
#include <cmath>
#include <deque>

#include "policy/block_limits.hpp"

namespace flexgen {
namespace {

// So many times the rows of a block are followed one by one; of those that are left in between, the last wave tells.
constexpr double followed_waves = 4;
constexpr double tiny = 1e-6;  // of a row

// Rows that entered in one sweep and make as many tokens each.
struct Cohort {
  double rows = 0;
  double left = 0;  // tokens to make
  double position = 0;
};

// Tokens that rows make, as quantiles of a curve from near 0 up with the mean and the spread that the job has. The most
// of a plan may be larger: it makes room for rows that are not known yet.
class LengthCurve {
 public:
  explicit LengthCurve(const JobShape& job) : most_(std::max(1, job.max_new_tokens)) {
    const double rows = static_cast<double>(std::max<std::int64_t>(1, job.num_rows));
    const double mean = std::clamp(static_cast<double>(job.new_tokens) / rows, 1.0, most_);
    // Of lengths most * x^power with x from 0 to 1, each as likely: mean = most / (power + 1), and the mean of their
    // squares most^2 / (2 power + 1).
    const double excess = std::max(0.0, job.new_squares / rows / (mean * mean) - 1);
    power_ = excess + std::sqrt(excess * (excess + 1));
    most_ = std::min(most_, mean * (power_ + 1));
  }
  /// Rows are asked for in an order in which any few in a row stand for all.
  double next() {
    constexpr double golden = 0.6180339887498949;
    at_ = std::fmod(at_ + golden, 1.0);
    return std::max(1.0, std::round(most_ * std::pow(at_, power_)));
  }
  bool are_alike() const { return power_ < 0.1; }

 private:
  double most_;
  double power_;
  double at_ = 0.5;
};

class RowFlow {
 public:
  RowFlow(const BlockShape& block, const JobShape& job)
      : job_(job),
        lengths_(job),
        places_(static_cast<double>(block.block_rows())),
        budget_(static_cast<double>(block.num_micro_batches) * micro_batch_tokens(block, job)),
        is_fixed_(block.rule == BlockRule::fixed) {
    const double groups = std::max(1, block.num_groups);
    const auto rows = static_cast<double>(job.num_rows);
    waiting_ = rows / groups;
    prompt_ = rows > 0 ? static_cast<double>(job.prompt_tokens) / rows : 0;
    read_ = std::max(0.0, prompt_ - job.mean_shared_tokens(block.num_prefixes));
    piece_ = std::max(1.0, std::min(places_, waiting_) / pieces_of_block);
  }

  void run(const std::function<void(const FlowSweep&)>& visit) {
    const double all = waiting_;
    const double followed = followed_waves * places_ - tiny;
    double left_out = std::max(0.0, all - 2 * followed);
    FlowSweep steady{0, 0, 0, 0, 0};  // sums over whole waves, the second half of those that are followed
    while (waiting_ > 0 || !flight_.empty()) {
      const bool is_steady = left_out > 0 && all - waiting_ >= followed / 2;
      const FlowSweep sweep = step();
      visit(sweep);
      if (is_steady) add(sweep, steady);
      if (left_out > 0 && all - waiting_ >= followed) {
        waiting_ -= left_out;
        visit(mean_of(steady, left_out));
        left_out = 0;
      }
    }
  }

 private:
  static constexpr double pieces_of_block = 64;  // in which rows enter: enough for the shapes of lengths

  static void add(const FlowSweep& sweep, FlowSweep& sums) {
    sums.prompt_tokens += sweep.prompt_tokens;
    sums.beginning += sweep.beginning;
    sums.decoding += sweep.decoding;
    sums.decode_position += sweep.decode_position * sweep.decoding;
    sums.count += 1;
  }

  // Of as many sweeps as so many rows need.
  static FlowSweep mean_of(const FlowSweep& sums, double rows) {
    const double position = sums.decoding > 0 ? sums.decode_position / sums.decoding : 0;
    return {sums.prompt_tokens / sums.count, sums.beginning / sums.count, sums.decoding / sums.count, position,
            rows / sums.beginning * sums.count};
  }

  // One sweep: all in flight make a token, and prompts are read with what is left of the budget.
  FlowSweep step() {
    FlowSweep sweep;
    double positions = 0;
    for (Cohort& cohort : flight_) {
      sweep.decoding += cohort.rows;
      positions += cohort.rows * cohort.position;
      cohort.left -= 1;
      cohort.position += 1;
    }
    if (sweep.decoding > 0) sweep.decode_position = positions / sweep.decoding;
    const double in_flight = sweep.decoding;
    std::erase_if(flight_, [](const Cohort& cohort) { return cohort.left <= 0; });
    const bool may_enter = !is_fixed_ || in_flight == 0;
    const double room = may_enter ? std::max(0.0, places_ - in_flight) : 0;
    const double tokens = std::max(0.0, (is_fixed_ ? places_ * std::max(1.0, read_) : budget_) - in_flight);
    const double most = std::min({waiting_, room, read_ > 0 ? tokens / read_ : room});
    sweep.beginning = most;
    sweep.prompt_tokens = most * read_;
    enter(most);
    return sweep;
  }

  // A prompt's last sweep makes its row's first token. Rows enter whole in the mean; what is left of one goes on.
  void enter(double rows) {
    waiting_ -= rows;
    if (waiting_ < tiny) waiting_ = 0;
    while (rows > tiny) {
      const double some = std::min(rows, lengths_.are_alike() ? rows : piece_);
      const double length = lengths_.next();
      if (length > 1) flight_.push_back({some, length - 1, prompt_});
      rows -= some;
    }
  }

  const JobShape& job_;
  LengthCurve lengths_;
  double places_;
  double budget_;
  bool is_fixed_;
  double waiting_ = 0;
  double prompt_ = 0;
  double read_ = 0;  // of a prompt, by its row itself
  double piece_ = 1;
  std::deque<Cohort> flight_;
};

}  // namespace

void follow_rows(const BlockShape& block, const JobShape& job, const std::function<void(const FlowSweep&)>& visit) {
  RowFlow(block, job).run(visit);
}

}  // namespace flexgen

// The rows of a source that wait for a place. A window of them is pulled ahead, so that the one can be chosen that
// fits; whether there is another is known before it is taken, for the first weights of a sweep are loaded early where
// one follows.
//
// Refers to its source. Calls take O(log n) of the n rows in the window, unless they say more. Single-threaded.
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <optional>
#include <set>
#include <tuple>
#include <utility>

#include "batch/prefix_tree.hpp"
#include "batch/row_source.hpp"

namespace flexgen {

/// Whether it is found out which rows begin alike.
enum class Beginnings : std::uint8_t { ignored, compared };

class WaitingRows {
 public:
  using Arrival = std::int64_t;  // rows of the source before it

  /// @param window  rows that are pulled ahead of their places at most, at least one
  WaitingRows(RowSource& source, std::size_t window, Beginnings beginnings = Beginnings::ignored)
      : source_(source), window_(window), beginnings_(beginnings) {}

  /// Pulls one row ahead, at least.
  bool any();
  /// Those in the window and those that have yet to come; none: the source does not know.
  std::optional<std::int64_t> count() const;

  /// Pulls as many as the window holds.
  void fill();
  /// Whether no others will come, but those that rows bring that end.
  bool are_last() const { return has_ended_ || source_.num_left() == 0; }
  /// Of the rows in the window, which must have some: the one that was there first.
  Arrival oldest() const { return rows_.begin()->first; }
  /// Younger ones that were taken before it.
  std::int64_t times_oldest_was_passed() const { return num_taken_ - oldest(); }
  /// The longest one of so many positions at most; of those that are as long, the oldest. None: all are longer.
  std::optional<Arrival> longest_within(std::int32_t positions) const;
  /// The one that makes most tokens of those that have so many positions at most, one of which must be there. O(n) at
  /// worst, where those that make most are too long.
  Arrival longest_lived_within(std::int32_t positions) const;
  Arrival shortest() const { return by_length_.begin()->second; }
  /// Positions that one of them needs, in whole grains.
  std::int32_t positions(Arrival row) const { return positions_of(rows_.at(row)); }
  double mean_positions() const { return static_cast<double>(sum_positions_) / static_cast<double>(rows_.size()); }
  const RowRequest& at(Arrival row) const { return rows_.at(row); }

  /// Rows in the window that begin with these tokens, whole grains of them, by positions; null: none does.
  const PrefixTree::Ordered* rows_that_begin_with(PrefixTree::Tokens tokens) const {
    return tree_.rows_that_begin_with(tokens);
  }
  /// Of these, the one that makes most tokens of those that have so many positions at most; none: all are longer. O(n).
  std::optional<Arrival> longest_lived_of(const PrefixTree::Ordered& rows, std::int32_t positions) const;
  /// PrefixTree::cuts: the pieces of its prompt that others in the window have, too.
  std::vector<std::int32_t> cuts(Arrival row) const { return tree_.cuts(row); }

  RowRequest take(Arrival row);

 private:
  bool pull();
  static std::int32_t positions_of(const RowRequest& row);

  RowSource& source_;
  std::size_t window_;
  Beginnings beginnings_;
  PrefixTree tree_;  // of the rows in the window
  std::map<Arrival, RowRequest> rows_;
  std::set<std::pair<std::int32_t, Arrival>> by_length_;               // (positions, row)
  std::set<std::tuple<std::int32_t, std::int32_t, Arrival>> by_life_;  // (new tokens, positions, - row)
  std::int64_t sum_positions_ = 0;
  bool has_ended_ = false;  // the source has given all
  std::int64_t num_pulled_ = 0;
  std::int64_t num_taken_ = 0;
};

}  // namespace flexgen

// Budgets of the tiers: what may be taken, what is, and the most that ever was.
//
// Thread-safe. A budget counts; it owns no memory.
#pragma once

#include <cstdint>
#include <mutex>
#include <string_view>
#include <utility>

namespace flexgen {

enum class TierKind : std::uint8_t { gpu, dram, ssd };
/// "gpu", "dram" or "ssd".
std::string_view tier_name(TierKind tier);

class TierBudget {
 public:
  TierBudget(TierKind tier, std::uint64_t capacity_bytes) : tier_(tier), capacity_bytes_(capacity_bytes) {}
  TierBudget(const TierBudget&) = delete;
  TierBudget& operator=(const TierBudget&) = delete;

  /// Throws UserError (does_not_fit) with what is wanted, used and allowed, and changes nothing, when `bytes` more
  /// do not fit. `what` names the taker ("weights of layer 3").
  void take(std::uint64_t bytes, std::string_view what);
  /// Gives back what take() gave; more than is used is a bug (InternalError).
  void give_back(std::uint64_t bytes);

  TierKind tier() const { return tier_; }
  std::uint64_t capacity_bytes() const { return capacity_bytes_; }
  std::uint64_t used_bytes() const;
  std::uint64_t peak_bytes() const;

 private:
  const TierKind tier_;
  const std::uint64_t capacity_bytes_;
  mutable std::mutex mutex_;
  std::uint64_t used_bytes_ = 0;
  std::uint64_t peak_bytes_ = 0;
};

/// A share of a budget, given back at the end of its life. The budget must outlive it.
class BudgetShare {
 public:
  BudgetShare() = default;
  BudgetShare(TierBudget& budget, std::uint64_t bytes, std::string_view what) : budget_(&budget), bytes_(bytes) {
    budget.take(bytes, what);
  }
  ~BudgetShare();
  BudgetShare(BudgetShare&& other) noexcept
      : budget_(std::exchange(other.budget_, nullptr)), bytes_(std::exchange(other.bytes_, 0)) {}
  BudgetShare& operator=(BudgetShare&& other) noexcept {
    std::swap(budget_, other.budget_);
    std::swap(bytes_, other.bytes_);
    return *this;
  }
  BudgetShare(const BudgetShare&) = delete;
  BudgetShare& operator=(const BudgetShare&) = delete;

  std::uint64_t bytes() const { return bytes_; }

 private:
  TierBudget* budget_ = nullptr;
  std::uint64_t bytes_ = 0;
};

}  // namespace flexgen

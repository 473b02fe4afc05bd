// Budgets of the tiers: what may be taken, what is, what it is for, and the most that ever was. Who takes memory says
// so here at that moment: reports are read off these counts.
//
// Thread-safe. A budget counts; it owns no memory.
#pragma once

#include <array>
#include <cstdint>
#include <mutex>
#include <string_view>
#include <utility>

#include "spec/tier.hpp"

namespace flexgen {

class TierBudget {
 public:
  TierBudget(TierKind tier, std::uint64_t capacity_bytes) : tier_(tier), capacity_bytes_(capacity_bytes) {}
  TierBudget(const TierBudget&) = delete;
  TierBudget& operator=(const TierBudget&) = delete;

  /// Throws UserError (does_not_fit) with what is wanted, used and allowed, and changes nothing, when `bytes` more
  /// do not fit. `what` names the taker ("weights of layer 3").
  void take(std::uint64_t bytes, MemoryUse use, std::string_view what);
  /// Gives back what take() gave; more than is in this use is a bug (InternalError).
  void give_back(std::uint64_t bytes, MemoryUse use);

  TierKind tier() const { return tier_; }
  std::uint64_t capacity_bytes() const { return capacity_bytes_; }
  std::uint64_t used_bytes() const;
  std::uint64_t peak_bytes() const;
  /// The same of one use; the peaks of all uses may add up to more than the tier's.
  std::uint64_t used_bytes(MemoryUse use) const;
  std::uint64_t peak_bytes(MemoryUse use) const;

 private:
  struct Count {
    std::uint64_t used = 0;
    std::uint64_t peak = 0;
  };
  const TierKind tier_;
  const std::uint64_t capacity_bytes_;
  mutable std::mutex mutex_;
  Count all_;
  std::array<Count, num_memory_uses> by_use_;
};

/// A share of a budget, given back at the end of its life. The budget must outlive it.
class BudgetShare {
 public:
  BudgetShare() = default;
  BudgetShare(TierBudget& budget, std::uint64_t bytes, MemoryUse use, std::string_view what)
      : budget_(&budget), bytes_(bytes), use_(use) {
    budget.take(bytes, use, what);
  }
  ~BudgetShare();
  BudgetShare(BudgetShare&& other) noexcept
      : budget_(std::exchange(other.budget_, nullptr)), bytes_(std::exchange(other.bytes_, 0)), use_(other.use_) {}
  BudgetShare& operator=(BudgetShare&& other) noexcept {
    std::swap(budget_, other.budget_);
    std::swap(bytes_, other.bytes_);
    std::swap(use_, other.use_);
    return *this;
  }
  BudgetShare(const BudgetShare&) = delete;
  BudgetShare& operator=(const BudgetShare&) = delete;

  std::uint64_t bytes() const { return bytes_; }

 private:
  TierBudget* budget_ = nullptr;
  std::uint64_t bytes_ = 0;
  MemoryUse use_ = MemoryUse::staging;
};

}  // namespace flexgen

#include "storage/tier_budget.hpp"

#include <fmt/core.h>

#include <algorithm>
#include <exception>

#include "base/bytes.hpp"
#include "base/error.hpp"
#include "base/log.hpp"

namespace flexgen {
namespace {

std::string_view flag_of(TierKind tier) {
  switch (tier) {
    case TierKind::gpu: return "--gpu-mem";
    case TierKind::dram: return "--cpu-mem";
    case TierKind::ssd: return "--disk-mem";
  }
  return "";
}

}  // namespace

void TierBudget::take(std::uint64_t bytes, MemoryUse use, std::string_view what) {
  std::lock_guard lock(mutex_);
  if (bytes > capacity_bytes_ - all_.used) {
    throw UserError(
        ExitCode::does_not_fit, fmt::format("{} do not fit the {} tier", what, tier_name(tier_)),
        fmt::format("{} ({} bytes) are wanted, {} of {} are used, {} are left", format_bytes(bytes), bytes,
                    format_bytes(all_.used), format_bytes(capacity_bytes_), format_bytes(capacity_bytes_ - all_.used)),
        fmt::format("Raise {}, put less on this tier (--percent), or lower the batch size", flag_of(tier_)));
  }
  for (Count* count : {&all_, &by_use_[static_cast<std::size_t>(use)]}) {
    count->used += bytes;
    count->peak = std::max(count->peak, count->used);
  }
}

void TierBudget::give_back(std::uint64_t bytes, MemoryUse use) {
  std::lock_guard lock(mutex_);
  Count& own = by_use_[static_cast<std::size_t>(use)];
  FLEXGEN_CHECK(bytes <= own.used, "more is given back to a tier than was taken");
  own.used -= bytes;
  all_.used -= bytes;
}

std::uint64_t TierBudget::used_bytes() const {
  std::lock_guard lock(mutex_);
  return all_.used;
}

std::uint64_t TierBudget::peak_bytes() const {
  std::lock_guard lock(mutex_);
  return all_.peak;
}

std::uint64_t TierBudget::used_bytes(MemoryUse use) const {
  std::lock_guard lock(mutex_);
  return by_use_[static_cast<std::size_t>(use)].used;
}

std::uint64_t TierBudget::peak_bytes(MemoryUse use) const {
  std::lock_guard lock(mutex_);
  return by_use_[static_cast<std::size_t>(use)].peak;
}

BudgetShare::~BudgetShare() {
  if (!budget_) return;
  try {
    budget_->give_back(bytes_, use_);
  } catch (const std::exception& error) {
    log::error(error.what());
  }
}

}  // namespace flexgen

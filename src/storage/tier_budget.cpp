#include "storage/tier_budget.hpp"

#include <fmt/format.h>

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

std::string_view tier_name(TierKind tier) {
  switch (tier) {
    case TierKind::gpu: return "gpu";
    case TierKind::dram: return "dram";
    case TierKind::ssd: return "ssd";
  }
  return "unknown";
}

void TierBudget::take(std::uint64_t bytes, std::string_view what) {
  std::lock_guard lock(mutex_);
  if (bytes > capacity_bytes_ - used_bytes_) {
    throw UserError(
        ExitCode::does_not_fit, fmt::format("{} do not fit the {} tier", what, tier_name(tier_)),
        fmt::format("{} ({} bytes) are wanted, {} of {} are used, {} are left", format_bytes(bytes), bytes,
                    format_bytes(used_bytes_), format_bytes(capacity_bytes_),
                    format_bytes(capacity_bytes_ - used_bytes_)),
        fmt::format("Raise {}, put less on this tier (--percent), or lower the batch size", flag_of(tier_)));
  }
  used_bytes_ += bytes;
  peak_bytes_ = std::max(peak_bytes_, used_bytes_);
}

void TierBudget::give_back(std::uint64_t bytes) {
  std::lock_guard lock(mutex_);
  FLEXGEN_CHECK(bytes <= used_bytes_, "more is given back to a tier than was taken");
  used_bytes_ -= bytes;
}

std::uint64_t TierBudget::used_bytes() const {
  std::lock_guard lock(mutex_);
  return used_bytes_;
}

std::uint64_t TierBudget::peak_bytes() const {
  std::lock_guard lock(mutex_);
  return peak_bytes_;
}

BudgetShare::~BudgetShare() {
  if (!budget_) return;
  try {
    budget_->give_back(bytes_);
  } catch (const std::exception& error) {
    log::error(error.what());
  }
}

}  // namespace flexgen

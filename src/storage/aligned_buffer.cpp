#include "storage/aligned_buffer.hpp"

#include <cstdlib>
#include <cstring>
#include <string>

#include "base/bytes.hpp"
#include "base/error.hpp"

namespace flexgen {

AlignedBuffer::AlignedBuffer(std::uint64_t size_bytes) : size_bytes_(size_bytes) {
  if (size_bytes == 0) return;
  const std::uint64_t rounded = align_up(size_bytes, direct_alignment);
  data_.reset(static_cast<std::byte*>(std::aligned_alloc(direct_alignment, rounded)));
  if (!data_) {
    throw UserError(ExitCode::does_not_fit, "cannot take " + format_bytes(rounded) + " of memory for file transfers",
                    "the system has none left", "Lower --cpu-mem or free memory on this machine");
  }
  std::memset(data_.get(), 0, rounded);
}

void AlignedBuffer::Free::operator()(std::byte* memory) const { std::free(memory); }

void BounceArea::reset() {
  if (memory_.size_bytes() == 0) memory_ = AlignedBuffer(slot_bytes * num_slots);
  free_slots_.clear();
  for (std::uint32_t slot = num_slots; slot > 0; --slot) free_slots_.push_back(slot - 1);
}

std::optional<std::uint32_t> BounceArea::take() {
  if (free_slots_.empty()) return std::nullopt;
  const std::uint32_t slot = free_slots_.back();
  free_slots_.pop_back();
  return slot;
}

}  // namespace flexgen

#include "storage/aligned_buffer.hpp"

#include <sys/mman.h>

#include <cstdlib>
#include <cstring>
#include <string>

#include "base/bytes.hpp"
#include "base/error.hpp"

namespace flexgen {
namespace {

constexpr std::uint64_t mapped_from_bytes = 256 * KiB;  // smaller ones are many: a process has 65,530 mappings
constexpr std::uint64_t huge_page_bytes = 2 * MiB;

// Null where the system has no memory left. Begins with a huge page where it is as large as one.
void* map_memory(std::uint64_t bytes) {
  const std::uint64_t slack = bytes >= huge_page_bytes ? huge_page_bytes : 0;
  void* mapped = mmap(nullptr, bytes + slack, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (mapped == MAP_FAILED) return nullptr;
  if (slack == 0) return mapped;
  auto* begin = static_cast<std::byte*>(mapped);
  const std::uint64_t before =
      align_up(reinterpret_cast<std::uintptr_t>(begin), slack) - reinterpret_cast<std::uintptr_t>(begin);
  if (before > 0) munmap(begin, before);
  if (slack > before) munmap(begin + before + bytes, slack - before);
  madvise(begin + before, bytes, MADV_HUGEPAGE);  // advice only: plain pages do as well
  return begin + before;
}

}  // namespace

AlignedBuffer::AlignedBuffer(std::uint64_t size_bytes) : size_bytes_(size_bytes) {
  if (size_bytes == 0) return;
  const std::uint64_t rounded = align_up(size_bytes, direct_alignment);
  if (rounded >= mapped_from_bytes) {
    data_ = {static_cast<std::byte*>(map_memory(rounded)), Free(rounded)};
  } else {
    data_ = {static_cast<std::byte*>(std::aligned_alloc(direct_alignment, rounded)), Free()};
    if (data_) std::memset(data_.get(), 0, rounded);
  }
  if (!data_) {
    throw UserError(ExitCode::does_not_fit, "cannot take " + format_bytes(rounded) + " of memory for file transfers",
                    "the system has none left", "Lower --cpu-mem or free memory on this machine");
  }
}

void AlignedBuffer::Free::operator()(std::byte* memory) const {
  if (mapped_bytes > 0) munmap(memory, mapped_bytes);
  else std::free(memory);
}

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

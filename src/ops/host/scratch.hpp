// A thread's scratch (ops/host_scratch.hpp), as the host's ops take it: a stack in one buffer, frame by frame.
// An op's frames nest in those of the op that calls it, and in its own on the thread that began the loop.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <new>
#include <vector>

#include "base/bytes.hpp"

namespace flexgen {

inline constexpr std::uint64_t scratch_alignment = 64;  // a cache line, and the widest vector

/// What a piece of `count` elements takes up.
template <class T>
std::uint64_t scratch_piece_bytes(std::int64_t count) {
  return align_up(static_cast<std::uint64_t>(count) * sizeof(T), scratch_alignment);
}

/// Owned by its thread.
class ThreadScratch {
 public:
  struct Mark {
    std::uint64_t used_bytes;
    std::size_t num_beyond;
  };

  ThreadScratch() = default;
  ~ThreadScratch();
  ThreadScratch(const ThreadScratch&) = delete;
  ThreadScratch& operator=(const ThreadScratch&) = delete;

  Mark begin() {
    if (used_bytes_ == 0) make_room();
    return {used_bytes_, beyond_.size()};
  }
  void end(const Mark& mark) {
    used_bytes_ = mark.used_bytes;
    if (beyond_.size() > mark.num_beyond) give_back_beyond(mark.num_beyond);
  }
  std::byte* take(std::uint64_t bytes) {
    const std::uint64_t first = used_bytes_;
    used_bytes_ += bytes;
    if (used_bytes_ > peak_bytes_) note_peak();
    return used_bytes_ <= size_bytes_ ? memory_.get() + first : take_beyond(bytes);
  }
  std::uint64_t peak_bytes() const { return peak_bytes_; }

 private:
  struct Free {
    void operator()(std::byte* memory) const { ::operator delete (memory, std::align_val_t{scratch_alignment}); }
  };
  using Memory = std::unique_ptr<std::byte, Free>;
  struct Beyond {
    Memory memory;
    std::uint64_t bytes;
  };
  static Memory allocate(std::uint64_t bytes);

  void make_room();  // nothing is in use
  void note_peak();
  std::byte* take_beyond(std::uint64_t bytes);
  void give_back_beyond(std::size_t num_left);

  Memory memory_;
  std::uint64_t size_bytes_ = 0;
  std::uint64_t used_bytes_ = 0;
  std::uint64_t peak_bytes_ = 0;
  std::vector<Beyond> beyond_;  // what did not fit: memory in use never moves
};

ThreadScratch& scratch_of_this_thread();

/// What is taken of a frame is there until its end. Frames of a thread end in reverse order.
class ScratchFrame {
 public:
  ScratchFrame() : scratch_(scratch_of_this_thread()), mark_(scratch_.begin()) {}
  ~ScratchFrame() { scratch_.end(mark_); }
  ScratchFrame(const ScratchFrame&) = delete;
  ScratchFrame& operator=(const ScratchFrame&) = delete;

  /// `count` elements of a type that needs no constructor, 64-byte aligned, of undefined contents.
  template <class T>
  T* take(std::int64_t count) {
    return reinterpret_cast<T*>(scratch_.take(scratch_piece_bytes<T>(count)));
  }
  float* floats(std::int64_t count) { return take<float>(count); }

 private:
  ThreadScratch& scratch_;
  ThreadScratch::Mark mark_;
};

}  // namespace flexgen

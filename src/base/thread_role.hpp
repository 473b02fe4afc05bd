// What a thread is there for, where whoever asks whether a process gets anywhere (comm/process_activity) must know it.
// It is the thread's name, which debuggers show, too.
//
// A thread begins with the role of the one that starts it. Any thread; of its own alone.
#pragma once

#include <array>

namespace flexgen {

/// Looks on: that it runs does not mean that the job does.
inline constexpr const char* observer_role = "observes";
/// Waits for somebody outside to give rows: that may take as long as it likes.
inline constexpr const char* input_role = "waits for input";  // the longest that the kernel keeps

/// Gives the calling thread a role until this goes.
class ThreadRole {
 public:
  explicit ThreadRole(const char* role);
  ThreadRole(const ThreadRole&) = delete;
  ThreadRole& operator=(const ThreadRole&) = delete;
  ~ThreadRole();

 private:
  std::array<char, 16> before_{};
};

}  // namespace flexgen

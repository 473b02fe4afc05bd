// How many threads the host's ops use in this process.
#pragma once

#include <vector>

namespace flexgen {

/// For our own loops and LibTorch's kernels alike, from the next op on. Results do not depend on it.
void set_num_loop_threads(int num_threads);

/// Keeps the workers of our own loops on these processors, one each; the caller of a loop is left alone.
void pin_loop_threads(std::vector<int> processors);

/// While it lives, loops that this thread starts run on this thread alone: of a thread that is one of many at work.
class SerialLoops {
 public:
  SerialLoops();
  ~SerialLoops();
  SerialLoops(const SerialLoops&) = delete;
  SerialLoops& operator=(const SerialLoops&) = delete;

 private:
  bool before_;
};

}  // namespace flexgen

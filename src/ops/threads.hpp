// How many threads the host's ops use in this process.
#pragma once

namespace flexgen {

/// For our own loops and LibTorch's kernels alike, from the next op on. Results do not depend on it.
void set_num_loop_threads(int num_threads);

}  // namespace flexgen

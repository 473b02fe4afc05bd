#include "ops/threads.hpp"

#include "ops/thread_pool.hpp"

namespace flexgen {

void set_num_loop_threads(int num_threads) { loop_threads().resize(num_threads); }

}  // namespace flexgen

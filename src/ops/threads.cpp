#include "ops/threads.hpp"

#include <utility>

#include "ops/thread_pool.hpp"

namespace flexgen {

void set_num_loop_threads(int num_threads) { loop_threads().resize(num_threads); }

void pin_loop_threads(std::vector<int> processors) { loop_threads().pin(std::move(processors)); }

}  // namespace flexgen

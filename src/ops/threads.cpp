#include "ops/threads.hpp"

#ifdef _OPENMP
#include <omp.h>
#endif

namespace flexgen {

void set_num_loop_threads(int num_threads) {
#ifdef _OPENMP
  omp_set_num_threads(num_threads);
#else
  static_cast<void>(num_threads);
#endif
}

}  // namespace flexgen

#include "base/thread_role.hpp"

#include <sys/prctl.h>

namespace flexgen {

// Where the kernel does not keep names, roles are not known.
ThreadRole::ThreadRole(const char* role) {
  prctl(PR_GET_NAME, before_.data());
  prctl(PR_SET_NAME, role);
}

ThreadRole::~ThreadRole() { prctl(PR_SET_NAME, before_.data()); }

}  // namespace flexgen

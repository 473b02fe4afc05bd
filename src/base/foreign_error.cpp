#include "base/foreign_error.hpp"

#include <new>
#include <system_error>

namespace flexgen {
namespace {

constexpr const char* more_room = "Give the ranks of this machine less (--gpu-mem, --cpu-mem), or raise its limits";

}  // namespace

Error foreign_error(const std::exception& exception) {
  if (const auto* own = dynamic_cast<const Error*>(&exception)) return *own;
  if (dynamic_cast<const std::bad_alloc*>(&exception))
    return UserError(ExitCode::does_not_fit, "out of memory",
                     "the system gives no more (a limit of ulimit or of a control group, or none is left)", more_room);
  // What std::thread says where the kernel refuses one: its stack, or the number of threads.
  if (const auto* refusal = dynamic_cast<const std::system_error*>(&exception);
      refusal &&
      (refusal->code() == std::errc::resource_unavailable_try_again || refusal->code() == std::errc::not_enough_memory))
    return UserError(ExitCode::does_not_fit, "the system refuses a thread, or memory", refusal->what(),
                     std::string(more_room) + " (ulimit -v, ulimit -u, pids.max)");
  return InternalError(std::string("internal error: ") + exception.what());
}

}  // namespace flexgen

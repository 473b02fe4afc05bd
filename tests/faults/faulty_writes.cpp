// A library to be loaded before the program (LD_PRELOAD): writes that end in the middle, disks that are full, file
// systems without locks. What it does stands in the environment:
//   FLEXGEN_FAULT_FILE    how the paths of the files end that are meant
//   FLEXGEN_FAULT_AT      of writes to them, the one of this number (1, ...) is cut in half and ends the process
//   (SIGKILL) FLEXGEN_FAULT_ROOM    bytes that may be written to them: then the disk is full FLEXGEN_FAULT_LOCKS
//   "none": flock(2) knows no locks
#include <dlfcn.h>
#include <signal.h>
#include <sys/types.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <string>
#include <string_view>

namespace {

using Write = ssize_t (*)(int, const void*, size_t);
using Flock = int (*)(int, int);

std::string variable(const char* name) {
  const char* value = std::getenv(name);
  return value ? value : "";
}

bool is_meant(int fd) {
  static const std::string ending = variable("FLEXGEN_FAULT_FILE");
  if (ending.empty()) return false;
  std::array<char, 4096> path{};
  const ssize_t length = readlink(("/proc/self/fd/" + std::to_string(fd)).c_str(), path.data(), path.size());
  return std::string_view(path.data(), length > 0 ? static_cast<size_t>(length) : 0).ends_with(ending);
}

}  // namespace

extern "C" ssize_t write(int fd, const void* bytes, size_t count) {
  static const auto real = reinterpret_cast<Write>(dlsym(RTLD_NEXT, "write"));
  static const long cut_at = std::atol(variable("FLEXGEN_FAULT_AT").c_str());
  static const std::string room_text = variable("FLEXGEN_FAULT_ROOM");
  static std::atomic<long> room{std::atol(room_text.c_str())}, number{0};
  if (!is_meant(fd)) return real(fd, bytes, count);
  if (cut_at > 0 && ++number == cut_at) {
    real(fd, bytes, count / 2);
    raise(SIGKILL);
  }
  if (room_text.empty()) return real(fd, bytes, count);
  const long left = room.fetch_sub(static_cast<long>(count));
  if (left >= static_cast<long>(count)) return real(fd, bytes, count);
  room = 0;
  if (left > 0) return real(fd, bytes, static_cast<size_t>(left));
  errno = ENOSPC;
  return -1;
}

extern "C" int flock(int fd, int operation) {
  static const auto real = reinterpret_cast<Flock>(dlsym(RTLD_NEXT, "flock"));
  static const bool knows_locks = variable("FLEXGEN_FAULT_LOCKS") != "none";
  if (knows_locks) return real(fd, operation);
  errno = ENOLCK;
  return -1;
}

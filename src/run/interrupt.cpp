#include "run/interrupt.hpp"

#include <signal.h>  // NOLINT(modernize-deprecated-headers): sigaction is POSIX's, <csignal> need not have it
#include <sys/stat.h>
#include <unistd.h>

#include <atomic>
#include <cstring>

#include "base/error.hpp"

namespace flexgen {
namespace {

std::atomic<const char*> words{""};
static_assert(std::atomic<const char*>::is_always_lock_free);  // a signal handler may use nothing else
volatile sig_atomic_t on_terminal = 0;
std::atomic<const char*> empty_file{nullptr};

void say(const char* text) {
  if (write(STDERR_FILENO, text, std::strlen(text)) < 0) return;  // nobody listens: the exit code says it all
}

std::atomic<bool> may_stop{false};
std::atomic<bool> is_stop_requested{false};

extern "C" void interrupted(int signal_number) {
  const bool is_told = signal_number == SIGUSR1;
  if (may_stop.exchange(false) || is_told) {
    if (is_stop_requested.exchange(true)) return;
    if (*words.load() != '\0')
      say("interrupted: the sweep under way is the last one; a second interrupt ends it at once\n");
    return;
  }
  remove_file_left_empty();
  const char* text = words.load();
  if (*text != '\0') {
    if (on_terminal) say("\n");  // behind the progress line
    say(text);
  }
  _exit(static_cast<int>(ExitCode::interrupted));
}

void take_over(int signal_number) {
  struct sigaction before = {};
  if (sigaction(signal_number, nullptr, &before) != 0 || before.sa_handler == SIG_IGN) return;
  struct sigaction action = {};
  action.sa_handler = interrupted;
  action.sa_flags = SA_RESTART;  // a call that waits for other ranks or a disk goes on
  sigfillset(&action.sa_mask);
  sigaction(signal_number, &action, nullptr);
}

}  // namespace

void remove_if_left_empty(const std::string& file) {
  static std::string kept;
  empty_file = nullptr;
  kept = file;
  if (!kept.empty()) empty_file = kept.c_str();
}

void remove_file_left_empty() {
  struct stat status {};
  const char* file = empty_file.load();
  if (file && stat(file, &status) == 0 && S_ISREG(status.st_mode) && status.st_size == 0) unlink(file);
}

void stop_on_interrupt(Launch launch) {
  take_over(SIGUSR1);
  may_stop = launch == Launch::alone;
}

void no_stop_on_interrupt() { may_stop = false; }

bool stop_requested() { return is_stop_requested.load(); }

void end_on_interrupt(const char* last_words) {
  words = last_words;
  on_terminal = isatty(STDERR_FILENO);
  for (const int signal_number : {SIGINT, SIGTERM}) take_over(signal_number);
}

}  // namespace flexgen

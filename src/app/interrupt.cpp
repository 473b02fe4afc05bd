#include "app/interrupt.hpp"

#include <signal.h>  // NOLINT(modernize-deprecated-headers): sigaction is POSIX's, <csignal> need not have it
#include <unistd.h>

#include <atomic>
#include <cstring>

#include "base/error.hpp"

namespace flexgen {
namespace {

std::atomic<const char*> words{""};
static_assert(std::atomic<const char*>::is_always_lock_free);  // a signal handler may use nothing else
volatile sig_atomic_t on_terminal = 0;

void say(const char* text) {
  if (write(STDERR_FILENO, text, std::strlen(text)) < 0) return;  // nobody listens: the exit code says it all
}

extern "C" void interrupted(int) {
  const char* text = words.load();
  if (*text != '\0') {
    if (on_terminal) say("\n");  // behind the progress line
    say(text);
  }
  _exit(static_cast<int>(ExitCode::interrupted));
}

}  // namespace

void end_on_interrupt(const char* last_words) {
  words = last_words;
  on_terminal = isatty(STDERR_FILENO);
  for (const int signal_number : {SIGINT, SIGTERM}) {
    struct sigaction before = {};
    if (sigaction(signal_number, nullptr, &before) != 0 || before.sa_handler == SIG_IGN) continue;
    struct sigaction action = {};
    action.sa_handler = interrupted;
    sigfillset(&action.sa_mask);
    sigaction(signal_number, &action, nullptr);
  }
}

}  // namespace flexgen

// flexgen-dist COMMAND [options]: dispatch on the command. Everything else is in src/app.
#include <fcntl.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <csignal>
#include <cstdio>
#include <cstring>
#include <optional>
#include <string>
#include <vector>

#include "app/commands.hpp"
#include "app/options.hpp"
#include "app/output_paths.hpp"
#include "base/error.hpp"
#include "base/foreign_error.hpp"
#include "base/log.hpp"
#include "comm/mpi_session.hpp"
#include "run/interrupt.hpp"
#include "run/version.hpp"

namespace {

struct Command {
  const char* name;
  const char* summary;
  const char* if_interrupted;
  int (*run)(flexgen::MpiSession&, const flexgen::Options&);
};

constexpr std::array<Command, 7> commands{{
    {"generate", "run a batch job: JSONL rows in, JSONL rows out",
     "error: interrupted: the rows finished so far stand in the output\n", flexgen::run_generate},
    {"score", "log-probabilities of given texts; perplexity",
     "error: interrupted: the rows finished so far stand in the output\n", flexgen::run_score},
    {"bench", "measure the throughput of a model and policy on synthetic prompts", "error: interrupted\n",
     flexgen::run_bench},
    {"plan", "find the best policy of a job, on these machines or on others", "error: interrupted\n",
     flexgen::run_plan},
    {"verify", "hold a policy's tokens and scores against a float32 reference", "error: interrupted\n",
     flexgen::run_verify},
    {"profile", "measure what this machine can do at best", "error: interrupted\n", flexgen::run_profile},
    {"doctor", "look for what would keep a job from running, on every rank", "error: interrupted\n",
     flexgen::run_doctor},
}};

void print_usage(std::FILE* to) {
  std::fputs("usage: flexgen-dist COMMAND [options], alone or under mpirun\n\n", to);
  for (const Command& command : commands) std::fprintf(to, "  %-10s %s\n", command.name, command.summary);
  std::fputs(
      "\nflexgen-dist COMMAND --help (or help COMMAND) lists a command's options; --version says what this is.\n", to);
}

// A stream that is closed must not become the number of the next file that is opened: log lines would go there. What
// takes its place cannot be read (input) or written (output), as before.
void hold_standard_streams() {
  for (const int descriptor : {STDIN_FILENO, STDOUT_FILENO, STDERR_FILENO})
    if (::fcntl(descriptor, F_GETFD) < 0 && errno == EBADF)
      ::open("/dev/null", descriptor == STDIN_FILENO ? O_WRONLY : O_RDONLY);
}

// A log that nobody reads any more, or a full disk under it, ends no job; results that cannot be written are errors.
void ignore_lost_readers() {
  for (const int number : {SIGPIPE, SIGXFSZ}) std::signal(number, SIG_IGN);
}

const Command* find_command(const char* name) {
  for (const Command& command : commands)
    if (std::strcmp(command.name, name) == 0) return &command;
  return nullptr;
}

int refuse_command(const std::string& name) {
  if (!name.empty()) std::fprintf(stderr, "error: '%s' is not a command\n\n", name.c_str());
  print_usage(stderr);
  return static_cast<int>(flexgen::ExitCode::usage);
}

int help(const std::string& name) {
  if (name.empty()) print_usage(stdout);
  else if (!find_command(name.c_str())) return refuse_command(name);
  else flexgen::parse_options(name, {"--help"});
  return 0;
}

int run(flexgen::MpiSession& session, const Command& command, std::vector<std::string> words) {
  flexgen::Communicator& ranks = session.communicator();
  std::optional<flexgen::Options> options;
  ranks.agree_on_error([&] {
    options = flexgen::parse_options(command.name, std::move(words));
    if (options && ranks.rank() == 0) flexgen::check_output_paths(*options);
  });
  if (!options) return 0;
  flexgen::end_on_interrupt(ranks.rank() == 0 ? command.if_interrupted : "");
  flexgen::log::set_up(options->files.log_level, ranks.rank(), ranks.size(), ranks.host());
  session.watch_ranks(options->machine.rank_timeout);
  return command.run(session, *options);
}

}  // namespace

int main(int argc, char** argv) {
  using namespace flexgen;
  hold_standard_streams();
  ignore_lost_readers();
  const std::string first = argc > 1 ? argv[1] : "";
  if (first == "--version") {
    std::printf("flexgen-dist %s\n", version_text().c_str());
    return 0;
  }
  if (first == "--help" || first == "-h") {
    print_usage(stdout);
    return 0;
  }
  if (first == "help") return help(argc > 2 ? argv[2] : "");
  const Command* command = find_command(first.c_str());
  if (!command) return refuse_command(first);
  end_on_interrupt("");
  try {
    MpiSession session(argc, argv);
    try {
      return run(session, *command, {argv + 2, argv + argc});
    } catch (const Error& error) {
      end_on_interrupt("");  // the launcher ends all ranks when the first has left; what is to be said is the error
      return session.end_after(error);
    } catch (const std::exception& error) {
      return session.end_after(foreign_error(error));
    }
  } catch (const Error& error) {
    log::error(error.what());
    return static_cast<int>(error.code());
  }
}

// A small job that goes wrong on request; lost_rank_test.cpp starts it.
//
//     fault_program FOLDER MODE     each rank writes its process id to FOLDER/pid.RANK
//
// exchange  all ranks pass a message around the ring until they are killed
// hang      rank 0 waits for a message that nobody sends, the others wait for rank 0
// throw     rank 1 throws after some exchanges
// set-up    rank 1 fails in set-up
// bad-flag  all ranks fail alike in set-up
// fine      a few exchanges, then an orderly end
#include <unistd.h>

#include <chrono>
#include <filesystem>
#include <fstream>
#include <iostream>
#include <string>
#include <vector>

#include "base/log.hpp"
#include "comm/mpi_session.hpp"

namespace {

using namespace flexgen;

void pass_round(Transport& transport, std::size_t size) {
  const int next = (transport.rank() + 1) % transport.world_size();
  const int previous = (transport.rank() + transport.world_size() - 1) % transport.world_size();
  std::vector<std::byte> in(size), out(size);
  const auto receiving = transport.recv(in, previous, Channel::hidden);
  const auto sending = transport.send(out, next, Channel::hidden);
  receiving->wait();
  sending->wait();
}

void run(MpiSession& session, const std::string& mode) {
  Communicator& ranks = session.communicator();
  ranks.agree_on_error([&] {
    if (mode == "bad-flag") throw UserError(ExitCode::usage, "--percent is wrong", "five numbers", "Give six");
    if (mode == "set-up" && ranks.rank() == 1) throw UserError(ExitCode::model, "cannot open shard", "not there");
  });
  const auto transport = session.make_transport();
  if (mode == "hang") transport->recv_message(ranks.rank() == 0 ? 1 : 0, Channel::control);

  const auto end = std::chrono::steady_clock::now() + std::chrono::seconds(60);  // should nobody kill us
  for (int round = 0; std::chrono::steady_clock::now() < end; ++round) {
    pass_round(*transport, 200'000);
    if (mode == "fine" && round == 20) return;
    if (mode == "throw" && ranks.rank() == 1 && round == 20)
      throw UserError(ExitCode::communication, "the stage broke", "as the test wants");
  }
}

}  // namespace

int main(int argc, char** argv) {
  try {
    MpiSession session(argc, argv);
    Communicator& ranks = session.communicator();
    log::set_up(log::Level::info, ranks.rank(), ranks.size(), ranks.host());
    const std::filesystem::path pid_file = std::filesystem::path(argv[1]) / ("pid." + std::to_string(ranks.rank()));
    std::ofstream(pid_file.string() + ".new") << getpid();
    std::filesystem::rename(pid_file.string() + ".new", pid_file);  // appears whole
    try {
      run(session, argv[2]);
      return 0;
    } catch (const Error& error) {
      return session.end_after(error);
    }
  } catch (const Error& error) {
    log::error(error.what());
    return static_cast<int>(error.code());
  }
}

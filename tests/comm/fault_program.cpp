// A small job that goes wrong on request; lost_rank_test.cpp starts it.
//
//     fault_program FOLDER MODE [TIMEOUT]     each rank writes its process id to FOLDER/pid.RANK; after TIMEOUT seconds
//                                             without an answer a rank is lost
//
// exchange  all ranks pass a message around the ring until they are killed
// hang      rank 0 waits for a message that nobody sends, the others wait for rank 0
// deadlock  rank 1 waits for a lock that it has itself, the others for rank 1
// compute   rank 1 computes for 2.5 s, the others wait for it
// read      rank 1 waits 2.5 s for a file, the others for rank 1
// end       rank 1 takes its time to end, the others are in the end of MPI
// throw     rank 1 throws after some exchanges
// set-up    rank 1 fails in set-up
// bad-flag  all ranks fail alike in set-up
// fine      a few exchanges, then an orderly end
// fine-later  the same after two seconds of its own time
#include <sys/stat.h>
#include <unistd.h>

#include <chrono>
#include <condition_variable>
#include <filesystem>
#include <fstream>
#include <iostream>
#include <mutex>
#include <string>
#include <thread>
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

constexpr std::chrono::milliseconds slowness{2500};

void compute() {
  const auto end = std::chrono::steady_clock::now() + slowness;
  while (std::chrono::steady_clock::now() < end) {
  }
}

// A pipe whose writer takes its time.
void read_slowly(const std::filesystem::path& pipe) {
  if (mkfifo(pipe.c_str(), 0600) != 0) throw UserError(ExitCode::file, "no pipe", "mkfifo failed");
  std::thread writer([&] {
    std::ofstream to(pipe);
    std::this_thread::sleep_for(slowness);
    to << "word";
  });
  std::string word;
  std::ifstream(pipe) >> word;
  writer.join();
}

[[noreturn]] void wait_for_ever() {
  std::mutex mutex;
  std::condition_variable nobody_tells;
  std::unique_lock lock(mutex);
  for (;;) nobody_tells.wait(lock);
}

void be_slow(const std::string& mode, const std::filesystem::path& folder) {
  if (mode == "deadlock") wait_for_ever();
  if (mode == "compute") compute();
  if (mode == "read") read_slowly(folder / "pipe");
}

void run(MpiSession& session, const std::filesystem::path& folder, const std::string& mode) {
  Communicator& ranks = session.communicator();
  ranks.agree_on_error([&] {
    if (mode == "bad-flag") throw UserError(ExitCode::usage, "--percent is wrong", "five numbers", "Give six");
    if (mode == "set-up" && ranks.rank() == 1) throw UserError(ExitCode::model, "cannot open shard", "not there");
  });
  const auto transport = session.make_transport();
  if (ranks.rank() == 1) be_slow(mode, folder);
  if (mode == "compute" || mode == "read") return ranks.barrier();
  if (mode == "end") {
    ranks.barrier();
    if (ranks.rank() == 1) std::this_thread::sleep_for(slowness);
    return;
  }
  if (mode == "hang") transport->recv_message(ranks.rank() == 0 ? 1 : 0, Channel::control);

  const auto end = std::chrono::steady_clock::now() + std::chrono::seconds(60);  // should nobody kill us
  for (int round = 0; std::chrono::steady_clock::now() < end; ++round) {
    pass_round(*transport, 200'000);
    if (mode == "fine" && round == 20) return;
    if (mode == "fine-later" && round == 20) return;
    if (mode == "fine-later") std::this_thread::sleep_for(std::chrono::milliseconds(100));
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
    session.watch_ranks(std::chrono::seconds(argc > 3 ? std::stoi(argv[3]) : 60));
    const std::filesystem::path pid_file = std::filesystem::path(argv[1]) / ("pid." + std::to_string(ranks.rank()));
    std::ofstream(pid_file.string() + ".new") << getpid();
    std::filesystem::rename(pid_file.string() + ".new", pid_file);  // appears whole
    try {
      run(session, argv[1], argv[2]);
      return 0;
    } catch (const Error& error) {
      return session.end_after(error);
    }
  } catch (const Error& error) {
    log::error(error.what());
    return static_cast<int>(error.code());
  }
}

#include "tests/comm/transport_contract.hpp"

#include <gtest/gtest.h>

#include <cstring>
#include <numeric>
#include <string>
#include <thread>

#include "base/bytes.hpp"
#include "base/error.hpp"
#include "base/trace.hpp"

namespace flexgen::test {
namespace {

using Bytes = std::vector<std::byte>;

int next_of(const Transport& t) { return (t.rank() + 1) % t.world_size(); }
int previous_of(const Transport& t) { return (t.rank() + t.world_size() - 1) % t.world_size(); }

/// Bytes that tell sender, position and message apart.
Bytes pattern(std::size_t size, int sender, int message) {
  Bytes bytes(size);
  for (std::size_t i = 0; i < size; ++i)
    bytes[i] = static_cast<std::byte>((i * 7 + (i >> 8) + static_cast<std::size_t>(sender * 31 + message * 101)) & 255);
  return bytes;
}

std::span<const std::byte> as_bytes(const int& value) { return std::as_bytes(std::span(&value, 1)); }
std::span<std::byte> as_writable(int& value) { return std::as_writable_bytes(std::span(&value, 1)); }

/// One exchange around the ring with all of `size`.
void exchange(Transport& t, std::size_t size, int message) {
  const Bytes out = pattern(size, t.rank(), message);
  Bytes in(size);
  const auto receiving = t.recv(in, previous_of(t), Channel::hidden);
  const auto sending = t.send(out, next_of(t), Channel::hidden);
  receiving->wait();
  sending->wait();
  EXPECT_TRUE(receiving->done());
  EXPECT_TRUE(sending->done());
  EXPECT_TRUE(in == pattern(size, previous_of(t), message)) << size << " bytes on rank " << t.rank();
}

}  // namespace

void check_order(Transport& t, Communicator&) {
  constexpr int num_messages = 300;
  std::vector<int> values(num_messages);
  std::iota(values.begin(), values.end(), t.rank() * 1000);
  std::vector<std::unique_ptr<PendingOp>> sends;
  for (const int& value : values) sends.push_back(t.send(as_bytes(value), next_of(t), Channel::tokens));
  for (int i = 0; i < num_messages; ++i) {
    int got = -1;
    t.recv(as_writable(got), previous_of(t), Channel::tokens)->wait();
    ASSERT_EQ(got, previous_of(t) * 1000 + i);
  }
  for (const auto& send : sends) send->wait();
}

void check_sizes(Transport& t, Communicator&) {
  int message = 0;
  for (const std::size_t size : {0, 1, 7, 4095, 4096, 4097, 65536, 100'003, 1'048'576}) exchange(t, size, message++);
}

void check_messages(Transport& t, Communicator&) {
  // The sender does not wait, whatever the size; the receiver learns the size.
  const std::size_t sizes[] = {5, 0, 3'000'000, 4096, 8192};
  for (int i = 0; i < 5; ++i) t.send_message(pattern(sizes[i], t.rank(), i), next_of(t), Channel::control);
  for (int i = 0; i < 5; ++i) {
    const Bytes got = t.recv_message(previous_of(t), Channel::control);
    EXPECT_TRUE(got == pattern(sizes[i], previous_of(t), i))
        << got.size() << " bytes where " << sizes[i] << " were sent";
  }
  // Either kind of send meets either kind of receive.
  const Bytes out = pattern(1000, t.rank(), 9);
  const auto sending = t.send(out, next_of(t), Channel::control);
  EXPECT_TRUE(t.recv_message(previous_of(t), Channel::control) == pattern(1000, previous_of(t), 9));
  sending->wait();
  t.send_message(out, next_of(t), Channel::control);
  Bytes in(1000);
  t.recv(in, previous_of(t), Channel::control)->wait();
  EXPECT_TRUE(in == pattern(1000, previous_of(t), 9));
}

// Listened to before anything is sent, beside other channels; one that is given up takes nothing away.
void check_messages_started_ahead(Transport& t, Communicator& ranks) {
  const std::uint64_t begin_ns = now_ns();
  const auto first = t.start_recv_message(previous_of(t), Channel::control);
  const auto second = t.start_recv_message(previous_of(t), Channel::control);
  { const auto given_up = t.start_recv_message(previous_of(t), Channel::control); }
  EXPECT_FALSE(first->done());
  EXPECT_FALSE(second->done());
  ranks.barrier();
  t.send_message(pattern(7, t.rank(), 0), next_of(t), Channel::tokens);
  EXPECT_TRUE(t.recv_message(previous_of(t), Channel::tokens) == pattern(7, previous_of(t), 0));
  t.send_message(pattern(2'000'000, t.rank(), 1), next_of(t), Channel::control);
  t.send_message(pattern(3, t.rank(), 2), next_of(t), Channel::control);
  second->wait();
  EXPECT_TRUE(second->done());
  first->wait();
  EXPECT_TRUE(first->take() == pattern(2'000'000, previous_of(t), 1));
  EXPECT_TRUE(second->take() == pattern(3, previous_of(t), 2));
  EXPECT_GE(first->done_ns(), begin_ns);
  EXPECT_LE(first->done_ns(), now_ns());
  ranks.barrier();  // what was sent has left: the next transport is made while nothing else moves
}

void check_many_outstanding(Transport& t, Communicator&) {
  constexpr int num_messages = 64;
  constexpr std::size_t size = 20'000;
  std::vector<Bytes> out, in(num_messages, Bytes(size));
  std::vector<std::unique_ptr<PendingOp>> ops;
  for (int i = 0; i < num_messages; ++i)
    ops.push_back(t.recv(in[static_cast<std::size_t>(i)], previous_of(t), Channel::hidden));
  for (int i = 0; i < num_messages; ++i) out.push_back(pattern(size, t.rank(), i));
  for (const Bytes& bytes : out) ops.push_back(t.send(bytes, next_of(t), Channel::hidden));
  for (auto op = ops.rbegin(); op != ops.rend(); ++op) (*op)->wait();
  for (int i = 0; i < num_messages; ++i)
    EXPECT_TRUE(in[static_cast<std::size_t>(i)] == pattern(size, previous_of(t), i)) << "message " << i;
}

void check_channels_are_independent(Transport& t, Communicator&) {
  // A receive on one channel stays pending while the others carry traffic.
  Bytes late(100'000);
  const auto receiving = t.recv(late, previous_of(t), Channel::hidden);
  for (int i = 0; i < 10; ++i) {
    t.send_message(as_bytes(i), next_of(t), Channel::tokens);
    t.send_message({}, next_of(t), Channel::report);
    int got = -1;
    t.recv(as_writable(got), previous_of(t), Channel::tokens)->wait();
    EXPECT_EQ(got, i);
    EXPECT_TRUE(t.recv_message(previous_of(t), Channel::report).empty());
  }
  const Bytes out = pattern(late.size(), t.rank(), 1);
  const auto sending = t.send(out, next_of(t), Channel::hidden);
  receiving->wait();
  sending->wait();
  EXPECT_TRUE(late == pattern(late.size(), previous_of(t), 1));
}

void check_large(Transport& t, Communicator&) {
  // Only the first pair, so that four ranks do not take half a gigabyte.
  if (t.world_size() == 1) return exchange(t, 64 * MiB, 3);
  if (t.rank() == 0) {
    const Bytes out = pattern(64 * MiB, 0, 3);
    t.send(out, 1, Channel::hidden)->wait();
  } else if (t.rank() == 1) {
    Bytes in(64 * MiB);
    t.recv(in, 0, Channel::hidden)->wait();
    EXPECT_TRUE(in == pattern(64 * MiB, 0, 3));
  }
}

void check_wrong_size(Transport& t, Communicator&) {
  constexpr std::pair<std::size_t, std::size_t> cases[] = {
      {100, 60}, {60, 100}, {0, 1}, {1, 0}, {300'000, 1000}, {4096, 8192}, {8192, 4096}, {4095, 4096}, {1000, 300'000}};
  for (const auto& [sent, expected] : cases) {
    const Bytes out(sent);
    Bytes in(expected);
    const auto receiving = t.recv(in, previous_of(t), Channel::hidden);
    const auto sending = t.send(out, next_of(t), Channel::hidden);
    try {
      receiving->wait();
      ADD_FAILURE() << sent << " bytes were taken for " << expected;
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), ExitCode::communication);
      const std::string text = error.what();
      EXPECT_NE(text.find("a message of " + std::to_string(sent) + " bytes"), std::string::npos) << text;
      EXPECT_NE(text.find("where " + std::to_string(expected) + " were expected"), std::string::npos) << text;
    }
    sending->wait();
  }
  exchange(t, 1000, 4);  // the channel works on
}

void check_abandoned_receive(Transport& t, Communicator& ranks) {
  {
    Bytes never(1000);
    const auto receiving = t.recv(never, previous_of(t), Channel::report);
    EXPECT_FALSE(receiving->done());
  }
  ranks.barrier();  // nobody sends before all have withdrawn
  t.send_message(pattern(10, t.rank(), 5), next_of(t), Channel::report);
  EXPECT_TRUE(t.recv_message(previous_of(t), Channel::report) == pattern(10, previous_of(t), 5));
}

void check_threads(Transport& t, Communicator&) {
  // A sender, a receiver and a blocking message loop at once, as the engine has them.
  constexpr int num_messages = 100;
  std::jthread sender([&] {
    for (int i = 0; i < num_messages; ++i) t.send(pattern(5000, t.rank(), i), next_of(t), Channel::hidden)->wait();
  });
  std::jthread controller([&] {
    for (int i = 0; i < num_messages; ++i) {
      t.send_message(as_bytes(i), next_of(t), Channel::control);
      const Bytes got = t.recv_message(previous_of(t), Channel::control);
      int value = -1;
      std::memcpy(&value, got.data(), std::min(got.size(), sizeof value));
      EXPECT_EQ(value, i);
    }
  });
  for (int i = 0; i < num_messages; ++i) {
    Bytes in(5000);
    t.recv(in, previous_of(t), Channel::hidden)->wait();
    EXPECT_TRUE(in == pattern(5000, previous_of(t), i)) << "message " << i;
  }
}

}  // namespace flexgen::test

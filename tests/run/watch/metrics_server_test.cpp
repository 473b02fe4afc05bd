#include "run/watch/metrics_server.hpp"

#include <arpa/inet.h>
#include <gtest/gtest.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include <atomic>
#include <chrono>
#include <thread>
#include <vector>

#include "base/error.hpp"
#include "job/file_descriptor.hpp"

namespace flexgen::test {
namespace {

FileDescriptor connect_to(std::int32_t port) {
  auto socket = FileDescriptor::owned(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_port = htons(static_cast<std::uint16_t>(port));
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  EXPECT_EQ(::connect(socket.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address), 0);
  return socket;
}

std::string answer_to(std::int32_t port, std::string_view request) {
  const FileDescriptor socket = connect_to(port);
  write_fully(socket.get(), request);
  std::string answer;
  char part[4096];
  for (ssize_t count; (count = ::read(socket.get(), part, sizeof part)) > 0;)
    answer.append(part, static_cast<std::size_t>(count));
  return answer;
}

std::string scrape(std::int32_t port) { return answer_to(port, "GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n"); }

TEST(MetricsServer, GivesWhatWasPublishedLast) {
  MetricsServer server("127.0.0.1", 0);
  ASSERT_GT(server.port(), 0);
  server.publish("first 1\n");
  server.publish("second 2\n");
  const std::string answer = scrape(server.port());
  EXPECT_TRUE(answer.starts_with("HTTP/1.1 200 ")) << answer;
  EXPECT_NE(answer.find("Content-Type: text/plain; version=0.0.4; charset=utf-8\r\n"), std::string::npos) << answer;
  EXPECT_TRUE(answer.ends_with("\r\n\r\nsecond 2\n")) << answer;
  EXPECT_TRUE(answer_to(server.port(), "GET /other HTTP/1.1\r\nHost: x\r\n\r\n").starts_with("HTTP/1.1 404 "));
  EXPECT_TRUE(answer_to(server.port(), "POST /metrics HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n")
                  .starts_with("HTTP/1.1 404 "));
  EXPECT_TRUE(answer_to(server.port(), "nonsense\r\n\r\n").starts_with("HTTP/1.1 400 "));
}

TEST(MetricsServer, APortThatIsTakenIsAClearError) {
  const MetricsServer first("127.0.0.1", 0);
  try {
    const MetricsServer second("127.0.0.1", first.port());
    FAIL() << "two servers on one port";
  } catch (const UserError& error) {
    EXPECT_EQ(error.code(), ExitCode::usage);
    const std::string text = error.what();
    for (const std::string& part :
         {std::to_string(first.port()), std::string("Address already in use"), std::string("--metrics-port")})
      EXPECT_NE(text.find(part), std::string::npos) << text;
  }
}

TEST(MetricsServer, AnAddressOfAnotherMachineIsAClearError) {
  for (const char* address : {"203.0.113.7", "no such host"}) {
    SCOPED_TRACE(address);
    EXPECT_THROW(MetricsServer(address, 0), UserError);
  }
}

TEST(MetricsServer, ThePortIsFreeAfterIt) {
  std::int32_t port = 0;
  {
    const MetricsServer first("127.0.0.1", 0);
    port = first.port();
    scrape(port);
  }
  EXPECT_NO_THROW(MetricsServer("127.0.0.1", port));
}

TEST(MetricsServer, ReadersAndPublishersMeet) {
  MetricsServer server("127.0.0.1", 0);
  server.publish("value 0\n");
  std::atomic<bool> is_over = false;
  std::thread publisher([&] {
    for (int i = 1; !is_over; ++i) server.publish("value " + std::to_string(i) + "\n");
  });
  std::vector<std::thread> readers;
  std::atomic<int> num_whole = 0;
  for (int r = 0; r < 3; ++r)
    readers.emplace_back([&] {
      for (int i = 0; i < 10; ++i) {
        const std::string answer = scrape(server.port());
        if (answer.starts_with("HTTP/1.1 200 ") && answer.ends_with("\n")) ++num_whole;
      }
    });
  for (std::thread& reader : readers) reader.join();
  is_over = true;
  publisher.join();
  EXPECT_EQ(num_whole, 30);
}

TEST(MetricsServer, WhoSaysNothingHoldsUpNoEnd) {
  const auto begin = std::chrono::steady_clock::now();
  {
    MetricsServer server("127.0.0.1", 0);
    server.publish("value 1\n");
    const FileDescriptor silent = connect_to(server.port());
    EXPECT_TRUE(scrape(server.port()).ends_with("value 1\n")) << "nor other readers";
  }
  EXPECT_LT(std::chrono::steady_clock::now() - begin, std::chrono::seconds(10));
}

}  // namespace
}  // namespace flexgen::test

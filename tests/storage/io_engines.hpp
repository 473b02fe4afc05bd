// What every storage test runs over: both I/O engines, direct and buffered, and files with known content.
#pragma once

#include <gtest/gtest.h>

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <fstream>
#include <memory>
#include <string>
#include <vector>

#include "base/error.hpp"
#include "storage/io_queue.hpp"

namespace flexgen::test {

/// Small pseudo-random numbers that are the same everywhere (xorshift64).
class Numbers {
 public:
  explicit Numbers(std::uint64_t seed) : state_(seed * 0x9E3779B97F4A7C15ull + 1) {}
  std::uint64_t below(std::uint64_t limit) {
    state_ ^= state_ << 13;
    state_ ^= state_ >> 7;
    state_ ^= state_ << 17;
    return state_ % limit;
  }

 private:
  std::uint64_t state_;
};

inline std::vector<std::byte> make_bytes(std::uint64_t size, std::uint64_t seed) {
  Numbers numbers(seed);
  std::vector<std::byte> bytes(size);
  for (std::byte& byte : bytes) byte = static_cast<std::byte>(numbers.below(256));
  return bytes;
}

inline void write_file(const std::filesystem::path& path, const std::vector<std::byte>& bytes) {
  std::ofstream stream(path, std::ios::binary);
  stream.write(reinterpret_cast<const char*>(bytes.data()), static_cast<std::streamsize>(bytes.size()));
  ASSERT_TRUE(stream.good());
}

/// The message of the UserError that `action` throws with `code`; fails the test when it throws none.
template <class Action>
std::string user_error(ExitCode code, Action&& action) {
  try {
    action();
  } catch (const UserError& error) {
    EXPECT_EQ(error.code(), code) << error.what();
    return error.what();
  }
  ADD_FAILURE() << "no UserError was thrown";
  return "";
}

struct Engine {
  const char* name;
  bool direct;
};

inline std::string engine_name(const ::testing::TestParamInfo<Engine>& info) {
  return std::string(info.param.name) + (info.param.direct ? "_direct" : "_buffered");
}

inline constexpr Engine all_engines[] = {{"io_uring", true}, {"io_uring", false}, {"pread", true}, {"pread", false}};

/// Runs each test over all engines; skips io_uring only where the kernel refuses it.
class EngineTest : public ::testing::TestWithParam<Engine> {
 protected:
  void SetUp() override {
    if (std::string(GetParam().name) == "io_uring") {
      std::string refusal;
      queue_ = IoQueue::make_uring(64, refusal);
      if (!queue_) GTEST_SKIP() << refusal;
    } else {
      queue_ = IoQueue::make_pread();
    }
    ASSERT_EQ(queue_->name(), GetParam().name);
  }
  bool direct() const { return GetParam().direct; }

  std::unique_ptr<IoQueue> queue_;
};

}  // namespace flexgen::test

#include "device/buffer.hpp"

#include <gtest/gtest.h>

#include <cstring>
#include <utility>

#include "base/bytes.hpp"
#include "base/error.hpp"

namespace flexgen::test {
namespace {

constexpr MemoryKind every_kind[] = {MemoryKind::pageable, MemoryKind::pinned, MemoryKind::device};

TEST(Buffer, HostMemoryOfEveryKindIsPageAlignedZeroedAndWritable) {
  for (const MemoryKind kind : every_kind)
    for (const std::uint64_t size : {1ULL, 4095ULL, 4096ULL, 4097ULL, 3ULL * MiB + 1}) {
      const Buffer buffer(kind, size, Device{});
      ASSERT_NE(buffer.data(), nullptr);
      EXPECT_EQ(reinterpret_cast<std::uintptr_t>(buffer.data()) % 4096, 0U);
      EXPECT_EQ(buffer.size_bytes(), size);
      EXPECT_EQ(buffer.kind(), kind);
      EXPECT_EQ(buffer.data()[0], std::byte{0});
      EXPECT_EQ(buffer.data()[size - 1], std::byte{0});
      std::memset(buffer.data(), 0xab, size);
      EXPECT_EQ(buffer.data()[size - 1], std::byte{0xab});
    }
}

TEST(Buffer, EmptyBuffersHoldNothing) {
  for (const MemoryKind kind : every_kind) {
    const Buffer buffer(kind, 0, Device{});
    EXPECT_EQ(buffer.data(), nullptr);
    EXPECT_EQ(buffer.size_bytes(), 0U);
  }
  EXPECT_EQ(Buffer().data(), nullptr);
}

TEST(Buffer, MovingHandsTheMemoryOver) {
  Buffer first(MemoryKind::pinned, 100, Device{});
  std::byte* data = first.data();
  data[99] = std::byte{7};
  Buffer second(std::move(first));
  EXPECT_EQ(second.data(), data);
  EXPECT_EQ(second.size_bytes(), 100U);
  EXPECT_EQ(second.kind(), MemoryKind::pinned);
  EXPECT_EQ(first.data(), nullptr);   // NOLINT: what a moved-from buffer is, is part of the contract
  EXPECT_EQ(first.size_bytes(), 0U);  // NOLINT

  Buffer third(MemoryKind::pageable, 5000, Device{});
  third = std::move(second);
  EXPECT_EQ(third.data(), data);
  EXPECT_EQ(third.data()[99], std::byte{7});
  Buffer& itself = third;
  third = std::move(itself);
  EXPECT_EQ(third.data(), data);
  third = Buffer();
  EXPECT_EQ(third.data(), nullptr);
}

TEST(Buffer, MemoryIsGivenBack) {
  // A thousand GiB in turn: fits only when each is freed (the memory is never touched).
  for (int i = 0; i < 1000; ++i) {
    const Buffer buffer(MemoryKind::pageable, 1 * GiB, Device{});
    ASSERT_NE(buffer.data(), nullptr);
  }
}

TEST(Buffer, TooMuchIsAnErrorWithTheNumber) {
  try {
    const Buffer buffer(MemoryKind::pageable, 1ULL << 60, Device{});
    FAIL() << "an exbibyte was given";
  } catch (const UserError& error) {
    EXPECT_EQ(error.code(), ExitCode::does_not_fit);
    EXPECT_NE(std::string(error.what()).find(format_bytes(1ULL << 60)), std::string::npos) << error.what();
  }
}

TEST(Device, TheHostNeedsNothing) {
  const Device host;
  EXPECT_FALSE(host.is_cuda());
  EXPECT_EQ(compute_capability(host), 0);
  EXPECT_EQ(pci_bus_id(host), "");
  EXPECT_EQ(device_description(host), "host CPU");
  EXPECT_NO_THROW(use_device(host));
  EXPECT_GE(num_cuda_devices(), 0);
  if (!cuda_compiled()) {
    EXPECT_EQ(num_cuda_devices(), 0);
  }
}

}  // namespace
}  // namespace flexgen::test

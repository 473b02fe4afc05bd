#include "base/bytes.hpp"

#include <gtest/gtest.h>

#include <string>
#include <utility>
#include <vector>

#include "base/error.hpp"

namespace flexgen::test {
namespace {

TEST(ParseBytes, UnitsOfBothKinds) {
  const std::vector<std::pair<const char*, std::uint64_t>> cases{
      {"0", 0},
      {"4096", 4096},
      {"12B", 12},
      {"1KiB", 1024},
      {"1kb", 1000},
      {"2k", 2048},
      {"512MiB", 512 * MiB},
      {"512 MiB", 512 * MiB},
      {"1.5MB", 1'500'000},
      {"3m", 3 * MiB},
      {"15GiB", 15 * GiB},
      {"15g", 15 * GiB},
      {"1.5GB", 1'500'000'000},
      {"0.5GiB", 512 * MiB},
      {"2TiB", 2048 * GiB},
      {"2tb", 2'000'000'000'000},
  };
  for (const auto& [text, bytes] : cases) EXPECT_EQ(parse_bytes(text), bytes) << text;
}

TEST(ParseBytes, RefusesWhatIsNoSize) {
  for (const char* text :
       {"", " ", "GiB", "-1", "-1GiB", "12 apples", "1GiBs", "1,5GB", "nan", "inf", "1e30", "99999999TiB", "1G 5"}) {
    try {
      const std::uint64_t bytes = parse_bytes(text);
      FAIL() << "'" << text << "' was read as " << bytes;
    } catch (const UserError& error) {
      EXPECT_EQ(error.code(), ExitCode::usage);
      EXPECT_NE(std::string(error.what()).find("'" + std::string(text) + "'"), std::string::npos) << error.what();
    }
  }
}

TEST(FormatBytes, LargestUnitThatLeavesAWholeNumber) {
  EXPECT_EQ(format_bytes(0), "0 B");
  EXPECT_EQ(format_bytes(1023), "1023 B");
  EXPECT_EQ(format_bytes(1024), "1.00 KiB");
  EXPECT_EQ(format_bytes(1536), "1.50 KiB");
  EXPECT_EQ(format_bytes(15 * GiB), "15.00 GiB");
  EXPECT_EQ(format_bytes(3 * 1024 * GiB), "3.00 TiB");
  EXPECT_EQ(format_bytes(5000 * 1024 * GiB), "5000.00 TiB");
}

TEST(FormatBytes, ParsesBackToAboutTheSame) {
  for (std::uint64_t bytes = 1; bytes < (1ULL << 50); bytes = bytes * 3 + 7) {
    const double back = static_cast<double>(parse_bytes(format_bytes(bytes)));
    EXPECT_NEAR(back, static_cast<double>(bytes), 0.006 * static_cast<double>(bytes)) << format_bytes(bytes);
  }
}

TEST(Align, UpAndDown) {
  for (const std::uint64_t alignment : {1ULL, 256ULL, 4096ULL, 1000ULL})
    for (std::uint64_t value = 0; value < 3 * alignment + 2; value += 1 + alignment / 7) {
      const std::uint64_t up = align_up(value, alignment);
      const std::uint64_t down = align_down(value, alignment);
      EXPECT_EQ(up % alignment, 0U);
      EXPECT_EQ(down % alignment, 0U);
      EXPECT_GE(up, value);
      EXPECT_LT(up - value, alignment);
      EXPECT_LE(down, value);
      EXPECT_LT(value - down, alignment);
    }
}

}  // namespace
}  // namespace flexgen::test

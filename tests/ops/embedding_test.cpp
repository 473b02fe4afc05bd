#include "ops/embedding.hpp"

#include <gtest/gtest.h>

#include "base/error.hpp"
#include "ops/elementwise.hpp"
#include "tests/support/device_fixture.hpp"

namespace flexgen::test {
namespace {

class RowsTest : public OnDevice {};

const std::vector<std::int32_t> kIndex = {4, 0, 10, 10, 3, 7, 1};

TEST_P(RowsTest, GatherCopiesRowsBitForBit) {
  for (const DType dtype : kAllDTypes) {
    for (const std::int64_t cols : {1, 37, 512}) {
      HostMatrix table = HostMatrix::random(11, cols, dtype, 1, 5);
      HostMatrix expected(7, cols, dtype, 2), poisoned(7, cols, dtype, 2);
      gather_rows_reference(table.view(), kIndex.data(), expected.view());
      const MatrixView out = upload(poisoned);
      gather_rows(context(), upload(table), upload(kIndex), out);
      EXPECT_EQ(download(out, poisoned).bytes(), expected.bytes()) << dtype_name(dtype) << " " << cols;
      for (std::int64_t c = 0; c < cols; ++c) EXPECT_EQ(expected.at(2, c), table.at(10, c));
    }
  }
}

TEST_P(RowsTest, AddGatheredRoundsOnce) {
  for (const DType dtype : kAllDTypes) {
    for (const std::int64_t cols : {1, 37, 512, 2051}) {
      HostMatrix table = HostMatrix::random(11, cols, dtype, 2, 3);
      HostMatrix out = HostMatrix::random(7, cols, dtype, 3, 1);
      HostMatrix expected = out;
      add_gathered_rows_reference(table.view(), kIndex.data(), expected.view());
      EXPECT_EQ(expected.at(6, 0), [&] {
        HostMatrix sum(1, 1, dtype);
        sum.set(0, 0, out.at(6, 0) + table.at(1, 0));
        return sum.at(0, 0);
      }());
      const MatrixView device_out = upload(out);
      add_gathered_rows(context(), upload(table), upload(kIndex), device_out);
      EXPECT_EQ(download(device_out, out).bytes(), expected.bytes()) << dtype_name(dtype) << " " << cols;
    }
  }
}

// Both parts lie in memory of the device here; tests/gpu has one in pinned memory of the host.
TEST_P(RowsTest, ATableInTwoPartsIsATable) {
  for (const DType dtype : kAllDTypes) {
    for (const std::int64_t cols : {37, 512}) {
      HostMatrix table = HostMatrix::random(11, cols, dtype, 1, 5);
      HostMatrix copied(7, cols, dtype, 2), poisoned(7, cols, dtype, 2);
      gather_rows_reference(table.view(), kIndex.data(), copied.view());
      HostMatrix sum = copied;
      add_gathered_rows_reference(table.view(), kIndex.data(), sum.view());
      for (const std::int64_t cut : {0, 1, 4, 10, 11}) {
        const MatrixView whole = upload(table), apart = upload(table);
        const TableView parts(whole.row_range(0, cut), apart.row_range(cut, 11 - cut));
        ASSERT_EQ(parts.rows(), 11);
        const MatrixView out = upload(poisoned);
        gather_rows(context(), parts, upload(kIndex), out);
        EXPECT_EQ(download(out, poisoned).bytes(), copied.bytes()) << dtype_name(dtype) << " cut at " << cut;
        add_gathered_rows(context(), parts, upload(kIndex), out);
        EXPECT_EQ(download(out, poisoned).bytes(), sum.bytes()) << dtype_name(dtype) << " cut at " << cut;
      }
    }
  }
}

TEST(TableView, ARangeOfRowsFindsThemInBothParts) {
  HostMatrix table = HostMatrix::random(9, 3, DType::float32, 1);
  for (std::int64_t cut = 0; cut <= 9; ++cut) {
    const TableView parts(table.view().row_range(0, cut), table.view().row_range(cut, 9 - cut));
    for (std::int64_t begin = 0; begin <= 9; ++begin)
      for (std::int64_t count = 0; begin + count <= 9; ++count) {
        const TableView range = parts.row_range(begin, count);
        ASSERT_EQ(range.rows(), count);
        for (std::int64_t r = 0; r < count; ++r) ASSERT_EQ(range.row(r), table.view().row(begin + r));
      }
  }
  const TableView whole = TableView(table.view()).row_range(2, 5);
  EXPECT_EQ(whole.row(0), table.view().row(2));
  EXPECT_EQ(whole.rest.rows, 0);
}

TEST_P(RowsTest, AddInAllAliasings) {
  for (const DType dtype : kAllDTypes) {
    for (const std::int64_t cols : {1, 37, 2051}) {
      HostMatrix x = HostMatrix::random(5, cols, dtype, 4, 3);
      HostMatrix y = HostMatrix::random(5, cols, dtype, 5, 1);
      HostMatrix expected(5, cols, dtype);
      for (int r = 0; r < 5; ++r)
        for (std::int64_t c = 0; c < cols; ++c) expected.set(r, c, x.at(r, c) + y.at(r, c));
      for (const int alias : {0, 1, 2}) {
        HostMatrix poisoned(5, cols, dtype);
        const MatrixView device_x = upload(x);
        const MatrixView device_y = upload(y);
        const MatrixView out = alias == 1 ? device_x : alias == 2 ? device_y : upload(poisoned);
        add(context(), device_x, device_y, out);
        expect_near(download(out, alias == 1 ? x : alias == 2 ? y : poisoned), expected, {0.0, 0.0}, "add");
      }
    }
  }
}

TEST_P(RowsTest, CopyOfBytesKeepsToItsEnds) {
  std::vector<std::uint8_t> from(3000);
  for (std::size_t i = 0; i < from.size(); ++i) from[i] = static_cast<std::uint8_t>(i * 7 + i / 256);
  const std::byte* device_from = reinterpret_cast<const std::byte*>(upload(from));
  for (const std::size_t begin : {0, 4, 5, 16}) {
    for (const std::size_t count : {0, 1, 4, 16, 255, 1040, 2048, 2900}) {
      std::vector<std::uint8_t> expected(3000, 0xee), result(3000);
      std::byte* to = reinterpret_cast<std::byte*>(upload(expected));
      std::copy_n(from.begin() + static_cast<std::ptrdiff_t>(begin), count,
                  expected.begin() + static_cast<std::ptrdiff_t>(begin));
      copy_bytes(context(), device_from + begin, to + begin, count);
      download(result.data(), to, result.size());
      EXPECT_EQ(result, expected) << count << " bytes from " << begin;
    }
  }
}

FLEXGEN_ON_EVERY_DEVICE(RowsTest);

TEST(GatherRows, RefusesAnIndexOutsideTheTable) {
  HostMatrix table = HostMatrix::random(3, 4, DType::float32, 1);
  HostMatrix out(1, 4, DType::float32);
  for (const std::int32_t index : {-1, 3})
    EXPECT_THROW(gather_rows({}, table.view(), &index, out.view()), InternalError);
}

TEST(Add, ReferenceBackendAgrees) {
  HostMatrix x = HostMatrix::random(3, 9, DType::bfloat16, 1);
  HostMatrix y = HostMatrix::random(3, 9, DType::bfloat16, 2);
  HostMatrix native(3, 9, DType::bfloat16), reference(3, 9, DType::bfloat16);
  OpContext context;
  add(context, x.view(), y.view(), native.view());
  context.backend = Backend::reference;
  add(context, x.view(), y.view(), reference.view());
  EXPECT_EQ(native.bytes(), reference.bytes());
}

}  // namespace
}  // namespace flexgen::test

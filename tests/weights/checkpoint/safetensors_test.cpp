#include "weights/checkpoint/safetensors.hpp"

#include <gtest/gtest.h>

#include "tests/weights/checkpoint/checkpoint_builders.hpp"
#include "tests/weights/checkpoint/expect_refused.hpp"

namespace flexgen::checkpoint {
namespace {

FileTable parse(const std::string& file) { return read_safetensors(MemoryBytes(bytes_of(file), "tiny.safetensors")); }

void expect_header_refused(const std::string& header, std::size_t data_bytes,
                           std::initializer_list<std::string_view> pieces) {
  SCOPED_TRACE(header);
  expect_refused([&] { parse(safetensors_file(header, data_bytes)); }, pieces);
}

constexpr const char* two_tensors =
    R"({"__metadata__":{"a":"b","deep":[[{"x":1}],null]},)"
    R"("a":{"dtype":"F16","shape":[2,3],"data_offsets":[4,16]},"b":{"data_offsets":[0,4],"shape":[],"dtype":"F32"}}  )";

TEST(Safetensors, GivesOffsetsFromTheStartOfTheFile) {
  const std::string file = safetensors_file(two_tensors, 16);
  const FileTable table = parse(file);
  const std::uint64_t data = file.size() - 16;
  ASSERT_EQ(table.tensors.size(), 2u);
  EXPECT_EQ(table.tensors[0].key, "b");
  EXPECT_EQ(table.tensors[0].dtype, DType::float32);
  EXPECT_TRUE(table.tensors[0].shape.empty());
  EXPECT_EQ(table.tensors[0].offset_bytes, data);
  EXPECT_EQ(table.tensors[0].size_bytes, 4u);
  EXPECT_EQ(table.tensors[1].key, "a");
  EXPECT_EQ(table.tensors[1].dtype, DType::float16);
  EXPECT_EQ(table.tensors[1].shape, (std::vector<std::int64_t>{2, 3}));
  EXPECT_EQ(table.tensors[1].offset_bytes, data + 4);
  EXPECT_EQ(table.tensors[1].size_bytes, 12u);
}

TEST(Safetensors, KeepsOtherElementTypesOut) {
  const FileTable table = parse(safetensors_file(
      R"({"i":{"dtype":"I64","shape":[1],"data_offsets":[0,8]},"f":{"dtype":"F4","shape":[3],"data_offsets":[8,10]}})",
      10));
  EXPECT_TRUE(table.tensors.empty());
  ASSERT_EQ(table.unsupported.size(), 2u);
  EXPECT_EQ(table.unsupported[0].key, "i");
  EXPECT_EQ(table.unsupported[0].dtype, "I64");
  EXPECT_EQ(table.unsupported[1].dtype, "F4");
}

TEST(Safetensors, TakesEmptyTensorsAndRefusesOverflowAroundThem) {
  EXPECT_EQ(parse(safetensors_file(R"({"e":{"dtype":"F32","shape":[0,7],"data_offsets":[0,0]}})", 0)).tensors.size(),
            1u);
  // 2^32 * 2^32 wraps to 0.
  expect_header_refused(R"({"w":{"dtype":"F32","shape":[4294967296,4294967296],"data_offsets":[0,0]}})", 0,
                        {"'w'", "shape"});
  // 2^62 * 4 bytes wraps to 0.
  expect_header_refused(R"({"w":{"dtype":"F32","shape":[4611686018427387904],"data_offsets":[0,0]}})", 0,
                        {"'w'", "shape"});
}

TEST(Safetensors, RefusesTruncation) {
  const std::string file = safetensors_file(two_tensors, 16);
  for (std::size_t size = 0; size < file.size(); ++size) {
    SCOPED_TRACE(size);
    expect_refused([&] { parse(file.substr(0, size)); }, {"tiny.safetensors"});
  }
  expect_refused([&] { parse(file + "x"); }, {"last 1 bytes belong to no tensor"});
}

TEST(Safetensors, RefusesBadHeaderLengths) {
  expect_refused([] { parse(little_endian(~0ull, 8) + "{}"); }, {"not a safetensors file"});
  expect_refused([] { parse(little_endian(100'000'001, 8) + "{}"); }, {"not a safetensors file"});
  expect_refused([] { parse(little_endian(3, 8) + "{}"); }, {"truncated"});
  expect_refused([] { parse(little_endian(0, 8) + "{}"); }, {"not a JSON object"});
}

TEST(Safetensors, RefusesBadLayouts) {
  const auto tensor = [](std::string_view key, std::string_view shape, std::string_view offsets) {
    return "\"" + std::string(key) + R"(":{"dtype":"F16","shape":)" + std::string(shape) + R"(,"data_offsets":)" +
           std::string(offsets) + "}";
  };
  const auto both = [&](std::string_view first, std::string_view second) {
    return "{" + tensor("a", "[2]", first) + "," + tensor("b", "[2]", second) + "}";
  };
  expect_header_refused(both("[0,4]", "[2,6]"), 6, {"'b'", "overlap"});
  expect_header_refused(both("[0,4]", "[0,4]"), 4, {"'b'", "overlap"});
  expect_header_refused(both("[0,4]", "[6,10]"), 10, {"'b'", "belong to no tensor"});
  expect_header_refused(both("[2,6]", "[6,10]"), 10, {"'a'", "belong to no tensor"});
  expect_header_refused(both("[0,4]", "[4,8]"), 6, {"'b'", "truncated"});
  expect_header_refused(both("[0,4]", "[4,8]"), 9, {"belong to no tensor"});
  expect_header_refused("{" + tensor("a", "[2]", "[4,0]") + "}", 4, {"'a'", "backwards"});
  expect_header_refused("{" + tensor("a", "[3]", "[0,4]") + "}", 4, {"'a'", "shape [3] of F16"});
  expect_header_refused("{" + tensor("a", "[2]", "[0,18446744073709551615]") + "}", 4, {"'a'", "truncated"});
}

TEST(Safetensors, RefusesBadHeaders) {
  expect_header_refused(
      R"({"a":{"dtype":"F16","shape":[1],"data_offsets":[0,2]},"a":{"dtype":"F16","shape":[1],"data_offsets":[2,4]}})",
      4, {"'a'", "twice"});
  expect_header_refused(R"({"a":{"dtype":"F16","dtype":"F16","shape":[1],"data_offsets":[0,2]}})", 2,
                        {"'a'", "repeated"});
  for (const char* entry : {R"("F16")",
                            "1",
                            "null",
                            "[]",
                            "{}",
                            R"({"dtype":"F16","shape":[1]})",
                            R"({"dtype":"F16","data_offsets":[0,2]})",
                            R"({"shape":[1],"data_offsets":[0,2]})",
                            R"({"dtype":1,"shape":[1],"data_offsets":[0,2]})",
                            R"({"dtype":"F16","shape":[1.0],"data_offsets":[0,2]})",
                            R"({"dtype":"F16","shape":[-1],"data_offsets":[0,2]})",
                            R"({"dtype":"F16","shape":[[1]],"data_offsets":[0,2]})",
                            R"({"dtype":"F16","shape":1,"data_offsets":[0,2]})",
                            R"({"dtype":"F16","shape":{"n":1},"data_offsets":[0,2]})",
                            R"({"dtype":"F16","shape":[1],"data_offsets":[0]})",
                            R"({"dtype":"F16","shape":[1],"data_offsets":[0,1,2]})",
                            R"({"dtype":"F16","shape":["1"],"data_offsets":[0,2]})",
                            R"({"dtype":"F16","shape":[1],"data_offsets":[],"data_offsets":[0,2]})",
                            R"({"dtype":"F16","shape":[9223372036854775808],"data_offsets":[0,2]})",
                            R"({"dtype":"F16","shape":[1e999],"data_offsets":[0,2]})"}) {
    expect_header_refused(std::string(R"({"a":)") + entry + "}", 2, {"tiny.safetensors"});
  }
  for (const char* header :
       {"", "[]", "null", "{", "{}}", R"({"a")", R"({"a":{"dtype":"F16)", R"({"__metadata__":"x"})"}) {
    expect_header_refused(header, 0, {"tiny.safetensors"});
  }
  expect_header_refused(std::string("{}\0{}", 5), 0, {"NUL"});
  std::string many_axes = "1";
  for (int i = 0; i < 64; ++i) many_axes += ",1";
  expect_header_refused(R"({"a":{"dtype":"F16","shape":[)" + many_axes + R"(],"data_offsets":[0,2]}})", 2,
                        {"'a'", "64 axes"});
}

TEST(Safetensors, SurvivesDepthAndLongNames) {
  expect_header_refused(std::string(R"({"__metadata__":)") + std::string(1'000'000, '['), 0, {"JSON"});
  expect_header_refused("{\"" + std::string(100'000, 'k') + "\":1}", 0, {"kkk..."});
}

}  // namespace
}  // namespace flexgen::checkpoint

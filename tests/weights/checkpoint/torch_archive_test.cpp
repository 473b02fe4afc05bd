#include "weights/checkpoint/torch_archive.hpp"

#include <gtest/gtest.h>

#include <limits>

#include "tests/weights/checkpoint/checkpoint_builders.hpp"
#include "tests/weights/checkpoint/expect_refused.hpp"
#include "weights/checkpoint/zip_directory.hpp"

namespace flexgen::checkpoint {
namespace {

FileTable parse(const std::string& file) { return read_torch_archive(MemoryBytes(bytes_of(file), "tiny.bin")); }

void expect_tensor_refused(const TestTensor& tensor, std::initializer_list<std::string_view> pieces) {
  expect_refused([&] { parse(torch_file(pickle_state_dict(tensor))); }, pieces);
}

std::string replace_first(std::string text, std::string_view from, std::string_view to) {
  return text.replace(text.find(from), from.size(), to);
}

TEST(ZipDirectory, FindsPayloadsInEveryForm) {
  const std::vector<TestRecord> records = {{"a/one", "first"}, {"a/two", "second payload"}, {"a/none", ""}};
  for (const ZipOptions& options :
       {ZipOptions{}, ZipOptions{.zip64 = true}, ZipOptions{.extra_bytes = 37},
        ZipOptions{.zip64 = true, .extra_bytes = 5, .comment = "PK\x05\x06 in a comment"}}) {
    const std::string file = zip_file(records, options);
    const MemoryBytes source(bytes_of(file), "tiny.zip");
    const ZipDirectory directory(source);
    ASSERT_EQ(directory.records().size(), 3u);
    for (const TestRecord& record : records) {
      const ZipRecord* found = directory.find(record.name);
      ASSERT_NE(found, nullptr);
      EXPECT_EQ(found->size_bytes, record.payload.size());
      EXPECT_EQ(file.substr(directory.payload_offset_bytes(*found), found->size_bytes), record.payload);
    }
    EXPECT_EQ(directory.find("a/three"), nullptr);
  }
}

TEST(ZipDirectory, RefusesWhatCannotBeReadInPlace) {
  const auto open_record = [](const TestRecord& record) {
    const std::string file = zip_file({record});
    const MemoryBytes source(bytes_of(file), "tiny.zip");
    const ZipDirectory directory(source);
    directory.payload_offset_bytes(directory.records().front());
  };
  expect_refused([&] { open_record({"a/b", "x", 8}); }, {"tiny.zip", "'a/b'", "compressed"});
  expect_refused([&] { open_record({"a/b", "x", 0, 1}); }, {"tiny.zip", "'a/b'", "encrypted"});
  const auto open_file = [](const std::string& file) {
    const MemoryBytes source(bytes_of(file), "tiny.zip");
    const ZipDirectory directory(source);
    for (const ZipRecord& record : directory.records()) directory.payload_offset_bytes(record);
  };
  expect_refused([&] { open_file(zip_file({{"a", "x"}, {"a", "y"}})); }, {"'a'", "twice"});
  expect_refused([&] { open_file(replace_first(zip_file({{"name", "x"}}), "name", "nome")); }, {"'name'", "damaged"});
}

TEST(ZipDirectory, RefusesEveryTruncation) {
  for (const bool zip64 : {false, true}) {
    const std::string file = torch_file(pickle_state_dict({}), {.zip64 = zip64});
    for (std::size_t size = 0; size < file.size(); ++size) {
      expect_refused([&] { parse(file.substr(0, size)); }, {"tiny.bin"});
    }
  }
}

TEST(TorchArchive, GivesOffsets) {
  const TestTensor tensor{.storage_type = "HalfStorage",
                          .storage_elements = 12,
                          .first_element = 4,
                          .shape = {2, 1, 4},
                          .strides = {4, 99, 1}};
  const std::string file = torch_file(pickle_state_dict(tensor), {.zip64 = true, .extra_bytes = 21});
  const FileTable table = parse(file);
  ASSERT_EQ(table.tensors.size(), 1u);
  EXPECT_EQ(table.tensors[0].key, "weight");
  EXPECT_EQ(table.tensors[0].dtype, DType::float16);
  EXPECT_EQ(table.tensors[0].shape, (std::vector<std::int64_t>{2, 1, 4}));
  EXPECT_EQ(file.substr(table.tensors[0].offset_bytes, table.tensors[0].size_bytes), "89abcdefghijklmn");
}

TEST(TorchArchive, RefusesTensorsOutsideTheirStorage) {
  EXPECT_EQ(parse(torch_file(pickle_state_dict({}))).tensors.size(), 1u);
  expect_tensor_refused({.first_element = 1}, {"tiny.bin", "'weight'", "end of its storage"});
  expect_tensor_refused({.first_element = -1}, {"'weight'", "out of range"});
  expect_tensor_refused({.first_element = std::numeric_limits<std::int64_t>::max()}, {"'weight'", "out of range"});
  expect_tensor_refused({.shape = {3, 3}}, {"'weight'", "end of its storage"});
  expect_tensor_refused({.shape = {-2, 3}}, {"'weight'", "out of range"});
  expect_tensor_refused({.shape = {std::int64_t{1} << 32, std::int64_t{1} << 32}}, {"'weight'", "out of range"});
  expect_tensor_refused({.shape = {std::int64_t{1} << 62}, .strides = {1}}, {"'weight'", "out of range"});
  expect_tensor_refused({.storage_elements = 7}, {"'weight'", "24 bytes"});
  expect_tensor_refused({.storage_elements = -1}, {"'weight'", "24 bytes"});
  expect_tensor_refused({.storage_elements = std::int64_t{1} << 62}, {"'weight'", "24 bytes"});
  expect_tensor_refused({.storage_key = "1"}, {"'weight'", "'1'", "missing"});
  expect_tensor_refused({.storage_key = "../data/0"}, {"'weight'", "missing"});
  expect_tensor_refused({.shape = std::vector<std::int64_t>(65, 1), .strides = std::vector<std::int64_t>(65, 1)},
                        {"'weight'", "64"});
}

TEST(TorchArchive, RefusesTensorsThatAreNotContiguous) {
  for (const std::vector<std::int64_t>& strides : {std::vector<std::int64_t>{1, 2}, {3, 2}, {0, 1}, {3, -1}, {4, 1}}) {
    expect_tensor_refused({.strides = strides}, {"tiny.bin", "'weight'", "not contiguous"});
  }
  expect_tensor_refused({.strides = {1}}, {"'weight'", "do not fit"});
  EXPECT_EQ(parse(torch_file(pickle_state_dict({.shape = {0, 3}, .strides = {7, 7}}))).tensors.size(), 1u);
}

TEST(TorchArchive, RefusesRepeatedAndNamelessTensors) {
  const std::string tensor = pickle_tensor({});
  const std::string key = pickle_text("weight");
  expect_refused([&] { parse(torch_file("}(" + key + tensor + key + tensor + "u.")); }, {"'weight'", "twice"});
  expect_refused([&] { parse(torch_file("}K\x01" + tensor + "s.")); }, {"not text"});
  expect_refused([&] { parse(torch_file(tensor + ".")); }, {"state dict"});
}

TEST(TorchArchive, UnwrapsOneNestedStateDict) {
  const std::string inner = "}" + pickle_text("weight") + pickle_tensor({}) + "s";
  EXPECT_EQ(parse(torch_file("}" + pickle_text("model") + inner + "s.")).tensors.at(0).key, "weight");
  EXPECT_EQ(parse(torch_file("}" + pickle_text("state_dict") + inner + "s.")).tensors.at(0).key, "weight");
  EXPECT_TRUE(parse(torch_file("}" + pickle_text("optimizer") + inner + "s.")).tensors.empty());
  expect_refused(
      [&] { parse(torch_file("}" + pickle_text("model") + inner + "s" + pickle_text("state_dict") + inner + "s.")); },
      {"more than one state dict"});
  // A dictionary that holds itself.
  EXPECT_TRUE(
      parse(torch_file(std::string("}q\0", 3) + pickle_text("model") + std::string("h\0s.", 4))).tensors.empty());
}

TEST(TorchArchive, RefusesOtherArchives) {
  const std::string pickle = pickle_state_dict({});
  const auto expect_records_refused = [](const std::vector<TestRecord>& records,
                                         std::initializer_list<std::string_view> pieces) {
    expect_refused([&] { parse(zip_file(records)); }, pieces);
  };
  expect_records_refused({{"a/data/0", "x"}}, {"no data.pkl"});
  expect_records_refused({{"a/b/data.pkl", pickle}}, {"no data.pkl"});
  expect_records_refused({{"a/data.pkl", pickle}, {"b/data.pkl", pickle}}, {"more than one data.pkl"});
  expect_records_refused({{"a/data.pkl", pickle}, {"a/byteorder", "big"}}, {"'big'"});
  expect_records_refused({{"a/data.pkl", pickle, 8}}, {"'a/data.pkl'", "compressed"});
  expect_records_refused({{"a/data.pkl", pickle}, {"a/data/0", std::string(24, 'x'), 8}}, {"'a/data/0'", "compressed"});
  expect_records_refused({{"a/data.pkl", pickle}, {"a/data/0", std::string(23, 'x')}}, {"23 bytes"});
}

TEST(TorchArchive, SaysHowToConvertOldFormats) {
  expect_refused([] { parse("\x80\x02\x8a\x0al\xfc\x9c\x46\xf9 j\xa8P\x19.rest of it"); },
                 {"before PyTorch 1.6", "torch.save(torch.load(", "safetensors"});
  std::string tar(512, '\0');
  tar.replace(257, 5, "ustar");
  expect_refused([&] { parse(tar); }, {"before PyTorch 1.6"});
  expect_refused([] { parse("<html>not found</html>"); }, {"not a zip archive"});
  expect_refused([] { parse(""); }, {"not a zip archive"});
}

}  // namespace
}  // namespace flexgen::checkpoint

// Files that hold no rows, and files that hold some bad ones.
#include "job/input_kind.hpp"

#include <gtest/gtest.h>

namespace flexgen::test {
namespace {

using namespace std::string_literals;

const std::string row = R"({"custom_id": "a", "prompt": "x"})";

/// What it is; "rows" where nothing is wrong.
std::string kind(const std::string& head, bool is_whole = true) {
  const std::optional<WrongKind> found = find_wrong_kind(head, is_whole);
  EXPECT_FALSE(found && found->remedy.empty()) << head;
  return found ? found->what : "rows";
}

std::string widen(const std::string& text, std::size_t num_before, std::size_t num_behind) {
  std::string wide;
  for (const char c : text) wide += std::string(num_before, '\0') + c + std::string(num_behind, '\0');
  return wide;
}

TEST(InputKind, PackedFiles) {
  EXPECT_EQ(kind("\x1F\x8B\x08\0abc"s), "it is a gzip file");
  EXPECT_EQ(kind("\x28\xB5\x2F\xFD more"s), "it is a zstd file");
  EXPECT_EQ(kind("PK\x03\x04 stored\n"s + row + "\n"), "it is a zip archive (spreadsheets are, too)");
  EXPECT_EQ(kind("\xFD\x37zXZ\0 more"s), "it is an xz file");
  EXPECT_EQ(kind("BZh91AY&SY more"), "it is a bzip2 file");
  EXPECT_EQ(kind("PAR1 more"), "it is a Parquet file");
  EXPECT_EQ(kind("name"s + std::string(253, '\0') + "ustar  " + std::string(248, '\0') + row + "\n"),
            "it is a tar archive");
  EXPECT_EQ(kind("\x7F"
                 "ELF\2\1\1\0\0\0\0\0\0\n"s),
            "it is a binary file");
}

TEST(InputKind, WideText) {
  const std::string text = row + "\n" + row + "\n";
  EXPECT_EQ(kind("\xFF\xFE"s + widen(text, 0, 1)), "it is UTF-16 text");
  EXPECT_EQ(kind("\xFE\xFF"s + widen(text, 1, 0)), "it is UTF-16 text");
  EXPECT_EQ(kind("\xFF\xFE\0\0"s + widen(text, 0, 3)), "it is UTF-32 text");
  EXPECT_EQ(kind("\0\0\xFE\xFF"s + widen(text, 3, 0)), "it is UTF-32 text");
  EXPECT_EQ(kind(widen(text, 0, 1)), "it is UTF-16 text");
  EXPECT_EQ(kind(widen(text, 1, 0)), "it is UTF-16 text");
  EXPECT_EQ(kind(widen(text, 0, 3)), "it is UTF-32 text");
  EXPECT_EQ(kind(widen(text, 3, 0)), "it is UTF-32 text");
  EXPECT_NE(find_wrong_kind(widen(text, 1, 0), true)->remedy.find("iconv -f UTF-16BE -t UTF-8"), std::string::npos);
}

TEST(InputKind, OneArray) {
  const std::string array = "it is one JSON array";
  EXPECT_EQ(kind("[" + row + ", " + row + "]\n"), array);
  EXPECT_EQ(kind("[\n" + row + ",\n" + row + "\n]\n"), array) << "its last row would be a good line";
  EXPECT_EQ(kind("[\n  {\n    \"prompt\": \"x\"\n  },\n"), array);
  EXPECT_EQ(kind("[" + row + ",\n" + row + ",\n", false), array);
  EXPECT_EQ(kind("[\"a\", \"b\"", false), array);
  EXPECT_EQ(kind("[]"), array);
}

TEST(InputKind, ObjectsOverSeveralLines) {
  const std::string pretty = "its JSON objects go over several lines";
  EXPECT_EQ(kind("{\n  \"custom_id\": \"a\",\n  \"prompt\": \"x\"\n}\n"), pretty);
  EXPECT_EQ(kind("{\r\n  \"prompt\": \"x\"\r\n}\r\n{\r\n  \"prompt\": \"y\"\r\n}\r\n"), pretty);
  EXPECT_EQ(kind("{\n \"messages\": [\n  {\"role\": \"user\"}\n ]\n}\n"), pretty) << "it has an object on a line";
  EXPECT_EQ(kind("{\n \"messages\": [\n  {\"role\": \"user\"},\n", false), pretty);
}

TEST(InputKind, Tables) {
  EXPECT_EQ(kind("custom_id,prompt\na,hello\nb,\"x, y\"\n"), "it looks like a table (CSV)");
  EXPECT_EQ(kind("custom_id;prompt\r\na;hello\r\n"), "it looks like a table (CSV)");
  EXPECT_EQ(kind("custom_id\tprompt\na\thello, you\n"), "it looks like a table (TSV)");
  EXPECT_EQ(kind("id,json\n1,\"{\"\"prompt\"\": \"\"x\"\"}\"\n"), "it looks like a table (CSV)");
}

TEST(InputKind, OldLineEnds) {
  EXPECT_EQ(kind(row + "\r" + row + "\r"), "its lines end with CR alone");
  EXPECT_EQ(kind("{oops\r" + row + "\r"), "its lines end with CR alone");
  EXPECT_EQ(kind(row + "\r"), "rows");
  EXPECT_EQ(kind("{\r\"prompt\": \"x\"\r}\r"), "rows") << "one line, one object";
}

TEST(InputKind, PlainText) {
  EXPECT_EQ(kind("What is the city?\nWho are you?\n"), "no line of it is a JSON object");
  EXPECT_EQ(kind("[1]\n[2]\n"), "no line of it is a JSON object");
}

TEST(InputKind, ABadLineAmongRows) {
  for (const std::string bad : {"oops", "[oops", "[", "[1]", "{\"custom_id\": \"torn\", \"prompt\": ", "{\"a\": \"",
                                "a,b,c", "a\tb", "\"text\"", "null", "{oops", "\x01\x02\x03", "caf\xE9"}) {
    EXPECT_EQ(kind(bad + "\n" + row + "\n" + row + "\n"), "rows") << bad;
    EXPECT_EQ(kind(bad + "\n" + row + "\n"), "rows") << bad;
    EXPECT_EQ(kind(row + "\n" + bad + "\n"), "rows") << bad;
    EXPECT_EQ(kind(bad + "\n" + row + "\n" + row + "\n" + row.substr(0, 9), false), "rows") << bad;
  }
  EXPECT_EQ(kind("\0oops\n"s + row + "\n"), "rows");
}

TEST(InputKind, WhatCannotBeTold) {
  EXPECT_EQ(kind(""), "rows");
  EXPECT_EQ(kind("\n \r\n"), "rows");
  EXPECT_EQ(kind("{\"prompt\": \"" + std::string(1000, 'x'), false), "rows") << "a long first line";
  EXPECT_EQ(kind(std::string(1000, 'x'), false), "rows") << "a long first line that may be bad alone";
  EXPECT_EQ(kind("{'prompt': 'x'}\n{'prompt': 'y'}\n"), "rows") << "bad rows, of which each has its error";
  EXPECT_EQ(kind("{\"custom_id\": \"torn\", \"prompt\": "), "rows");
}

}  // namespace
}  // namespace flexgen::test

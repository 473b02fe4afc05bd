#include "base/json_fields.hpp"

#include <gtest/gtest.h>

#include <cstdint>
#include <limits>
#include <map>
#include <stdexcept>
#include <vector>

namespace flexgen::test {
namespace {

struct Part {
  std::uint64_t bytes = 0;
  double seconds = 0;
  static constexpr auto fields() { return std::tuple(field("bytes", &Part::bytes), field("seconds", &Part::seconds)); }
  bool operator==(const Part&) const = default;
};

struct Whole {
  std::string name;
  bool on = false;
  Part part;
  std::vector<Part> list;
  std::map<std::string, Part> by_name;
  std::optional<Part> maybe;
  static constexpr auto fields() {
    return std::tuple(field("name", &Whole::name), field("on", &Whole::on), field("part", &Whole::part),
                      field("list", &Whole::list), field("by_name", &Whole::by_name), field("maybe", &Whole::maybe));
  }
  bool operator==(const Whole&) const = default;
};

Whole sample() { return {"a \"b\"", true, {1, 0.1}, {{2, 0.2}, {3, 1e300}}, {{"x", {4, 0}}}, Part{5, 0.5}}; }

TEST(JsonFields, FieldsStandInTheirOrder) {
  EXPECT_EQ(to_json_text(Part{1, 0.5}), R"({"bytes":1,"seconds":0.5})");
  EXPECT_EQ(to_json_text(Whole{}),
            R"({"name":"","on":false,"part":{"bytes":0,"seconds":0.0},"list":[],"by_name":{},"maybe":null})");
}

TEST(JsonFields, WhatIsWrittenIsReadAgain) {
  EXPECT_EQ(from_json_text<Whole>(to_json_text(sample())), sample());
  EXPECT_EQ(from_json_text<Whole>(to_json_text(Whole{})), Whole{});
  const Part largest{std::numeric_limits<std::uint64_t>::max(), 1.0 / 3};
  EXPECT_EQ(from_json_text<Part>(to_json_text(largest)), largest) << "every bit counts";
}

TEST(JsonFields, NothingIsReadFromAnythingElse) {
  for (const char* text :
       {"", "7", "[]", "{}", R"({"bytes":1})", R"({"bytes":1,"seconds":null})", R"({"bytes":-1,"seconds":0})",
        R"({"bytes":1,"seconds":-0.5})", R"({"bytes":"1","seconds":0})"})
    EXPECT_THROW(from_json_text<Part>(text), std::exception) << text;
  EXPECT_NO_THROW(from_json_text<Part>(R"({"bytes":1,"seconds":0,"more":2})"));
}

TEST(JsonFields, BytesThatAreNoTextAreReplaced) {
  Whole odd;
  odd.name = "\xff";
  EXPECT_EQ(from_json_text<Whole>(to_json_text(odd)).name, "\xEF\xBF\xBD");
}

}  // namespace
}  // namespace flexgen::test

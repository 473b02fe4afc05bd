// Whose error it is, of rows that are no JSON.
#include "job/broken_row.hpp"

#include <gtest/gtest.h>

#include "job/json_text.hpp"

namespace flexgen::test {
namespace {

RowIdentity identify(std::string_view line) {
  RowIdentity row{7, "line-7", false, false};
  identify_broken_row(line, row);
  return row;
}

/// The id that is found; "-" where none is.
std::string id_of(std::string_view line) {
  const RowIdentity row = identify(line);
  EXPECT_EQ(row.names_itself, row.custom_id != "line-7") << line;
  return row.names_itself ? row.custom_id : "-";
}

TEST(BrokenRow, KeepsItsId) {
  EXPECT_EQ(id_of(R"({"custom_id": "a", "prompt": "x",})"), "a");
  EXPECT_EQ(id_of(R"({"prompt": "x", "custom_id": "a",})"), "a");
  EXPECT_EQ(id_of(R"({"prompt": ["x",], "custom_id": "a"})"), "a");
  EXPECT_EQ(id_of(R"({"prompt": "x", "prompt": "y", "custom_id": "a"})"), "a");
  EXPECT_EQ(id_of("{\"prompt\": \"caf\xE9\", \"custom_id\": \"a\"}"), "a");
  EXPECT_EQ(id_of("{\"prompt\": \"tab\there\", \"custom_id\": \"a\"}"), "a");
  EXPECT_EQ(id_of(R"({"temperature": NaN, "stop": None, "custom_id": "a"})"), "a");
  EXPECT_EQ(id_of(R"({"prompt": "bad \x escape", "custom_id": "a"})"), "a");
  EXPECT_EQ(id_of(R"({"custom_id": "a", "prompt": "cut)"), "a");
  EXPECT_EQ(id_of(R"({"custom_id": "a", "prompt")"), "a");
  EXPECT_EQ(id_of(R"({"custom_id": "a")"), "a");
  EXPECT_EQ(id_of(R"({"custom_id": "a", "body": {"prompt": )"), "a");
  EXPECT_EQ(id_of(R"({"custom_id": "a", oops})"), "a");
  EXPECT_EQ(id_of(R"({"custom_id": "a", "prompt": "x"} trailing)"), "a");
  EXPECT_EQ(id_of(R"({"custom_id": "quote \" and \u00e9", "prompt": )"), "quote \" and \xC3\xA9");
  EXPECT_EQ(id_of(R"({"custom_id": "a", "x": 1, "custom_id": "a"})"), "a");
  EXPECT_EQ(id_of(R"({"prompt": "say \"custom_id\": \"evil\", ok", "custom_id": "a",})"), "a");
  EXPECT_EQ(id_of(R"({"custom_id": "a", "prompt": )" + std::string(100'000, '[')), "a");
}

TEST(BrokenRow, TakesNoIdThatIsNotItsOwn) {
  EXPECT_EQ(id_of(R"({"body": {"custom_id": "evil"},})"), "-");
  EXPECT_EQ(id_of(R"({"prompt": [{"custom_id": "evil"}],})"), "-");
  EXPECT_EQ(id_of(R"([{"custom_id": "evil"},])"), "-");
  EXPECT_EQ(id_of(R"({"prompt": "{\"custom_id\": \"evil\"}",})"), "-");
  EXPECT_EQ(id_of(R"({"prompt": "a quote " and "custom_id": "evil", "x": 1})"), "-");
  EXPECT_EQ(id_of(R"({"prompt": "a ", "custom_id": "evil", " in "text"", "custom_id": "real"})"), "-");
  EXPECT_EQ(id_of(R"({"body": {"prompt": "a "}, "custom_id": "evil", "b": {" c"}, "custom_id": "real"})"), "-");
  EXPECT_EQ(id_of(R"({"custom_id": "a", "custom_id": "b"})"), "-");
  EXPECT_EQ(id_of(R"({"custom_id": "a", "prompt": "x"}{"custom_id": "b", "prompt": "y"})"), "-");
  EXPECT_EQ(id_of(R"({"custom_id": "say "hi" there", "prompt": "x"})"), "-");
  EXPECT_EQ(id_of(R"({"custom_id": "cut)"), "-");
  EXPECT_EQ(id_of(R"({"custom_id": "cut\)"), "-");
  EXPECT_EQ(id_of(R"({"custom_id": 5,})"), "-");
  EXPECT_EQ(id_of(R"({"custom_id": "",})"), "-");
  EXPECT_EQ(id_of("{\"custom_id\": \"caf\xE9\", \"prompt\": \"x\"}"), "-");
  EXPECT_EQ(id_of(R"({"custom_id")"), "-");
  EXPECT_EQ(id_of(R"("custom_id": "a")"), "-");
  EXPECT_EQ(id_of("{oops"), "-");
  EXPECT_EQ(id_of(""), "-");
}

TEST(BrokenRow, KeepsItsForm) {
  EXPECT_TRUE(identify(R"({"custom_id": "a", "method": "POST", "url": "/v1/completions", "body": {"prompt": "x",}})")
                  .batch_format);
  EXPECT_TRUE(identify(R"({"custom_id": "a", "body": {"prompt": "cut)").batch_format);
  EXPECT_TRUE(identify(R"({"custom_id": "a", "method": "POST", "ur)").batch_format);
  EXPECT_FALSE(identify(R"({"custom_id": "a", "prompt": "x", "body": "text",})").batch_format);
  EXPECT_FALSE(identify(R"({"custom_id": "a", "prompt": "{\"body\": {\"x\": 1}}",})").batch_format);
  EXPECT_FALSE(identify(R"({"custom_id": "a",)").batch_format);
}

TEST(BrokenRow, AnOutlineSaysHowTheTextEnds) {
  const auto end_of = [](std::string_view text) { return outline_json(text).end; };
  using End = JsonOutline::End;
  EXPECT_EQ(end_of(" {\"a\": [1, {\"b\": null}]} rest"), End::complete);
  EXPECT_EQ(outline_json(" {\"a\": [1]} rest").end_at, 11U);
  EXPECT_EQ(end_of("[]"), End::complete);
  EXPECT_EQ(end_of("{}"), End::complete);
  EXPECT_EQ(end_of("12"), End::complete);
  EXPECT_EQ(end_of(""), End::cut);
  EXPECT_EQ(end_of("[1,"), End::cut);
  EXPECT_EQ(end_of("{\"a\""), End::cut);
  EXPECT_EQ(end_of("[1}"), End::broken);
  EXPECT_EQ(end_of("{\"a\" 1}"), End::broken);
  EXPECT_EQ(end_of("{\"a\": }"), End::broken);
  EXPECT_EQ(end_of("{1: 2}"), End::broken);
  EXPECT_EQ(end_of("[\"a\nb\"]"), End::broken) << "a string ends on its line";
}

}  // namespace
}  // namespace flexgen::test

// The same rows in every form in which they may come, and forms that are torn, hostile or wrong.
#include <gtest/gtest.h>
#include <unistd.h>

#include <fstream>
#include <nlohmann/json.hpp>

#include "base/error.hpp"
#include "job/input/kept_fields.hpp"
#include "job/input/prompt_template.hpp"
#include "job/request_reader.hpp"
#include "job/result.hpp"
#include "tests/job/input/packed.hpp"
#include "tests/support/scratch_place.hpp"

namespace flexgen::test {
namespace {

using Rows = std::vector<std::string>;

/// "id|prompt|max_tokens" of a request, "id!code: message" of an error.
std::string shown(const ParsedRow& row) {
  if (const auto* error = std::get_if<RowError>(&row))
    return error->custom_id + "!" + error->code + ": " + error->message;
  const auto& request = std::get<Request>(row);
  return request.custom_id + "|" + std::get<std::string>(request.prompts.at(0)) + "|" +
         std::to_string(request.max_tokens);
}

Rows read_all(RequestReader& reader) {
  Rows rows;
  while (const auto row = reader.next()) rows.push_back(shown(*row));
  return rows;
}

class InputForms : public ::testing::Test {
 protected:
  Rows read(const std::string& name, const std::string& text, const RequestDefaults& defaults = {},
            std::size_t max_line_bytes = 10'000) {
    RequestReader reader(place_.write(name, text), defaults, max_line_bytes);
    return read_all(reader);
  }

  /// Rows before a fault, and what it says.
  std::pair<std::size_t, std::string> read_broken(const std::string& name, const std::string& text) {
    std::size_t count = 0;
    try {
      RequestReader reader(place_.write(name, text), {});
      while (reader.next()) ++count;
    } catch (const UserError& error) {
      EXPECT_EQ(error.code(), ExitCode::file);
      return {count, error.what()};
    }
    return {count, "no fault"};
  }

  static std::string lines(int count, int first = 0) {
    std::string text;
    for (int i = first; i < first + count; ++i)
      text += "{\"custom_id\":\"" + std::to_string(i) + "\",\"prompt\":\"row " + std::to_string(i * 7919) + "\"}\n";
    return text;
  }

  ScratchPlace place_;
};

const std::string jsonl =
    "{\"custom_id\":\"a\",\"prompt\":\"x, "
    "\\\"y\\\"\\nz\",\"max_tokens\":3}\n{\"custom_id\":\"b\",\"prompt\":\"\xC3\xA9\"}\n";
const Rows rows{"a|x, \"y\"\nz|3", "b|\xC3\xA9|32"};

TEST_F(InputForms, AllGiveTheSameRows) {
  EXPECT_EQ(read("in.jsonl", jsonl), rows);
  EXPECT_EQ(read("any name", gzipped(jsonl)), rows);
  EXPECT_EQ(read("in.jsonl.zst", zstd_packed(jsonl)), rows);
  const std::string csv = "custom_id,prompt,max_tokens\r\na,\"x, \"\"y\"\"\nz\",3\r\nb,\xC3\xA9,\r\n";
  EXPECT_EQ(read("in.csv", csv), rows);
  EXPECT_EQ(read("in.CSV", "\xEF\xBB\xBF" + csv.substr(0, csv.size() - 2)), rows);
  EXPECT_EQ(read("in.csv.gz", gzipped(csv)), rows);
  EXPECT_EQ(read("in.tsv", "prompt\tcustom_id\tmax_tokens\n\"x, \"\"y\"\"\nz\"\ta\t3\n\xC3\xA9\tb\t\n"), rows);
  EXPECT_EQ(read("semicolons.csv", "custom_id;prompt;max_tokens\na;\"x, \"\"y\"\"\nz\";3\n\nb;\xC3\xA9;\n"), rows);
}

TEST_F(InputForms, ColumnsMeanWhatFieldsMean) {
  RequestReader reader(place_.write("in.csv",
                                    "custom_id,prompt,stop,temperature,echo,model,label,logprobs\n"
                                    ",[1],\"[\"\"a\"\",\"\"b\"\"]\",0.5,True,,12,\n"
                                    "q,,end,,,m,,warm\n"),
                       {});
  const auto first = std::get<Request>(*reader.next());
  EXPECT_EQ(first.custom_id, "line-2");
  EXPECT_EQ(std::get<std::string>(first.prompts[0]), "[1]") << "a prompt is a text";
  EXPECT_EQ(first.stop, (Rows{"a", "b"}));
  EXPECT_EQ(first.sampling.temperature, 0.5F);
  EXPECT_TRUE(first.echo);
  EXPECT_EQ(first.unread_fields, Rows{"label"});
  EXPECT_EQ(first.sampling.num_logprobs, -1);
  const auto second = std::get<RowError>(*reader.next());
  EXPECT_EQ(second.custom_id, "q");
  EXPECT_NE(second.message.find("'logprobs'"), std::string::npos) << second.message;
}

TEST_F(InputForms, HostileTablesCostTheRowOrSayWhereItBegan) {
  const auto starts_with = [](const std::string& text, const std::string& head) {
    return text.substr(0, head.size()) == head;
  };
  Rows got = read("in.csv",
                  "custom_id,prompt\na,1,2\nb\nc,\"x\"y\nd,ok\ne,\"" + std::string("n\0l", 3) + "\"\nf,\xFF\n\ng,ok\n");
  ASSERT_EQ(got.size(), 7U);
  EXPECT_EQ(
      got[0],
      "a!invalid_table_row: the row of line 2 is not usable: it has 3 fields, the table 2 columns. Correct the row");
  EXPECT_EQ(
      got[1],
      "b!invalid_table_row: the row of line 3 is not usable: it has 1 fields, the table 2 columns. Correct the row");
  EXPECT_TRUE(
      starts_with(got[2], "c!invalid_table_row: the row of line 4 is not usable: on line 4 text follows a quote"))
      << got[2];
  EXPECT_EQ(got[3], "d|ok|32");
  EXPECT_TRUE(starts_with(got[4], "e!invalid_table_row: the row of line 6 is not usable: line 6 has a NUL byte"))
      << got[4];
  EXPECT_TRUE(
      starts_with(got[5], "f!invalid_table_row: the row of line 7 is not usable: its field 'prompt' is no UTF-8"))
      << got[5];
  EXPECT_EQ(got[6], "g|ok|32");

  got = read("in.csv", "custom_id,prompt\na,ok\nb,\"opened\nc,lost\nd,lost\n");
  ASSERT_EQ(got.size(), 2U);
  EXPECT_NE(got[1].find("a quote that was opened on line 3 never ends"), std::string::npos) << got[1];

  got = read("in.csv", "custom_id,prompt\na,\"" + std::string(1'000'000, 'x') + "\"\nb," + std::string(1'000'000, ',') +
                           "\nc,ok\n");
  ASSERT_EQ(got.size(), 3U);
  EXPECT_NE(got[0].find("in a quote that was opened on line 2"), std::string::npos) << got[0];
  EXPECT_NE(got[1].find("it has more than"), std::string::npos) << got[1];
  EXPECT_EQ(got[2], "c|ok|32");
}

TEST_F(InputForms, TablesNameTheirColumnsOnce) {
  EXPECT_EQ(read("in.csv", ""), Rows{});
  EXPECT_EQ(read("in.csv", "custom_id,prompt\n"), Rows{});
  EXPECT_NE(read_broken("in.csv", "a,prompt,a\n").second.find("two of its columns are called 'a'"), std::string::npos);
  EXPECT_NE(read_broken("in.csv", "a,\"prompt\n").second.find("never ends"), std::string::npos);
  EXPECT_NE(read_broken("in.csv", "PK\x03\x04 more").second.find("zip archive"), std::string::npos);
}

TEST_F(InputForms, PackedMembersFollowEachOther) {
  EXPECT_EQ(read("in", gzipped(lines(3)) + gzipped(lines(2, 3)) + std::string(512, '\0')).size(), 5U);
  EXPECT_EQ(read("in", zstd_packed(lines(3)) + zstd_packed(lines(2, 3))).size(), 5U);
  EXPECT_EQ(read("in", gzipped("")), Rows{});
  EXPECT_EQ(read("in", zstd_packed("")), Rows{});
}

TEST_F(InputForms, WhatIsTornOrCorruptEndsThere) {
  const std::string text = lines(40'000);
  for (const bool is_gzip : {true, false}) {
    const std::string packed = is_gzip ? gzipped(text) : zstd_packed(text);
    const std::string name = is_gzip ? "gzip" : "zstd";
    auto [count, what] = read_broken("torn", packed.substr(0, packed.size() / 2));
    EXPECT_GT(count, 1000U) << "rows before are given";
    EXPECT_LT(count, 40'000U);
    EXPECT_NE(what.find("behind line " + std::to_string(count) + ": it breaks off within its " + name),
              std::string::npos)
        << what;
    std::string corrupt = packed;
    for (std::size_t i = 0; i < 64; ++i) corrupt[corrupt.size() / 2 + i] ^= static_cast<char>(0x5A + i);
    std::tie(count, what) = read_broken("corrupt", corrupt);
    EXPECT_GT(count, 1000U);
    EXPECT_NE(what.find("its " + name + " data are corrupt"), std::string::npos) << what;
    std::tie(count, what) = read_broken("trailing", packed + "more");
    EXPECT_EQ(count, 40'000U);
    EXPECT_NE(what.find("corrupt"), std::string::npos) << what;
  }
  // A small one is torn within the part that is looked at first.
  const std::string small = gzipped(lines(500));
  const auto [count, what] = read_broken("torn", small.substr(0, small.size() - 100));
  EXPECT_GT(count, 100U);
  EXPECT_NE(what.find("breaks off"), std::string::npos) << what;
}

TEST_F(InputForms, ABombCostsItsLine) {
  const std::string bomb = gzipped(lines(1) + std::string(100'000'000, ' ') + "x\n" + lines(1, 1));
  EXPECT_LT(bomb.size(), 200'000U);
  const Rows got = read("bomb.gz", bomb);
  ASSERT_EQ(got.size(), 3U);
  EXPECT_NE(got[1].find("line_too_long"), std::string::npos);
  EXPECT_EQ(got[2], "1|row 7919|32");
}

TEST_F(InputForms, SeveralInputsAreOneJob) {
  const std::string first = place_.write("a.jsonl", lines(2)),
                    second = place_.write("b.csv", "custom_id,prompt\n7,x\n0,again\n,own\nbad\n");
  RequestReader reader(InputFiles{{first, second}}, {});
  std::vector<std::uint64_t> ordinals;
  Rows got;
  while (const auto row = reader.next()) {
    got.push_back(shown(*row));
    ordinals.push_back(std::visit([](const auto& one) { return one.ordinal; }, *row));
  }
  EXPECT_EQ(ordinals, (std::vector<std::uint64_t>{0, 1, 2, 3, 4, 5}));
  EXPECT_EQ(got[2], "7|x|32");
  EXPECT_EQ(got[3], "input-2-line-3!duplicate_custom_id: '" + second + "', line 3: custom_id '0' of line 3 of '" +
                        second + "' was already used on line 1 of '" + first +
                        "': two results could not be told apart. Give every row its own id");
  EXPECT_EQ(got[4], "input-2-line-4|own|32");
  EXPECT_NE(got[5].find("'" + second + "', line 5: "), std::string::npos) << got[5];
  EXPECT_EQ(reader.share_read(), 1.0);
  EXPECT_THROW(RequestReader(InputFiles{{first, place_.file("missing")}}, {}), UserError) << "before a row is read";
}

TEST_F(InputForms, TemplatesMakePrompts) {
  RequestDefaults defaults;
  defaults.prompt_template = std::make_shared<const PromptTemplate>("Is {a} the same as {b c}? {{{k}}}");
  EXPECT_EQ(read("in.csv", "custom_id,a,b c,k\nq,x,y,3\n", defaults), Rows{"q|Is x the same as y? {3}|32"});
  EXPECT_EQ(
      read("in.jsonl",
           "{\"custom_id\":\"q\",\"a\":\"\\\"x\\\"\",\"b c\":[1,null],\"k\":1.5,\"prompt\":\"old\"}\n"
           "{\"custom_id\":\"r\",\"a\":\"x\",\"k\":1}\n"
           "{\"custom_id\":\"s\",\"method\":\"POST\",\"url\":\"/v1/completions\",\"body\":{\"a\":true,\"b c\":\"z\","
           "\"k\":0,\"max_tokens\":4}}\n",
           defaults),
      (Rows{"q|Is \"x\" the same as [1,null]? {1.5}|32",
            "r!missing_field: field 'b c' is missing: --prompt-template names it. Add it",
            "s|Is true the same as z? {0}|4"}));
  RequestReader reader(place_.write("in.csv", "a,b c,k,other\n1,2,3,4\n"), defaults);
  reader.next();
  EXPECT_EQ(reader.describe_unread_fields(), "nothing reads these fields of rows: \"other\" (1 row, first in line 2)");
  for (const char* bad : {"{a", "a}", "{}", "{a{b}}", "no field", ""})
    EXPECT_THROW(PromptTemplate{bad}, UserError) << bad;
}

TEST_F(InputForms, KeptFieldsComeBack) {
  const auto result_of = [&](const std::string& line, const std::string& names) {
    RequestDefaults defaults;
    defaults.kept_fields = std::make_shared<const KeptFields>(names);
    const ParsedRow row = parse_request(line, 1, defaults);
    if (const auto* error = std::get_if<RowError>(&row)) return nlohmann::json::parse(format_error(*error));
    Result result = result_for(std::get<Request>(row));
    result.choices.emplace_back();
    return nlohmann::json::parse(format_result(result, {}));
  };
  const std::string plain = "{\"prompt\":\"p\",\"label\":[1,{\"a\":null}],\"text\":\"mine\",\"max_tokens\":2}";
  EXPECT_EQ(result_of(plain, "label,max_tokens").at("label").dump(), "[1,{\"a\":null}]");
  EXPECT_EQ(result_of(plain, "label,max_tokens").at("max_tokens"), 2);
  EXPECT_FALSE(result_of(plain, "label").contains("row.text"));
  const nlohmann::json all = result_of(plain, "all");
  EXPECT_EQ(all.at("row.text"), "mine") << "results have a text of their own";
  EXPECT_EQ(all.at("text"), "");
  EXPECT_FALSE(all.contains("prompt"));
  EXPECT_EQ(result_of("{\"label\":1}", "label").at("label"), 1) << "in errors, too";
  const std::string batch =
      "{\"custom_id\":\"q\",\"note\":1,\"method\":\"POST\",\"url\":\"/v1/completions\","
      "\"body\":{\"prompt\":\"p\",\"model\":\"m\",\"metadata\":{\"tag\":\"t\",\"note\":2}}}";
  EXPECT_EQ(result_of(batch, "note,tag,model").at("fields").dump(), "{\"model\":\"m\",\"note\":1,\"tag\":\"t\"}");
  EXPECT_EQ(result_of(batch, "all").at("fields").dump(), "{\"note\":1,\"tag\":\"t\"}");
  EXPECT_FALSE(result_of(batch, "none of these").contains("fields"));
  for (const char* bad : {"text", "a,usage", "", "a,,b", "error"}) EXPECT_THROW(KeptFields{bad}, UserError) << bad;
}

TEST(KnownIds, AMillionFitInto32MiB) {
  KnownIds ids;
  for (std::uint64_t i = 0; i < 1'000'000; ++i) ASSERT_FALSE(ids.add("request-" + std::to_string(i), i + 1)) << i;
  EXPECT_EQ(ids.size(), 1'000'000U);
  EXPECT_LT(ids.num_bytes(), 32U << 20);
  for (std::uint64_t i = 0; i < 1'000'000; i += 997)
    ASSERT_EQ(ids.add("request-" + std::to_string(i), 5), std::optional(i + 1));
  EXPECT_FALSE(ids.contains("request-1000000"));
  EXPECT_FALSE(ids.contains(""));
  EXPECT_FALSE(ids.add("", (std::uint64_t{1} << 40) - 1));
  EXPECT_EQ(ids.add("", 1), std::optional((std::uint64_t{1} << 40) - 1));
  EXPECT_FALSE(ids.add(std::string(8, '\0'), 1)) << "as long as the hash's words";
  EXPECT_FALSE(ids.add(std::string(16, '\0'), 1));
}

}  // namespace
}  // namespace flexgen::test

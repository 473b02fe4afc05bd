// Rows of Parquet files (tests/data/make_parquet.py made those that lie there), sound and damaged; without Arrow, what
// is said of them.
#include <gtest/gtest.h>

#include <fstream>
#include <iterator>
#include <nlohmann/json.hpp>

#include "base/error.hpp"
#include "job/input/kept_fields.hpp"
#include "job/input/prompt_template.hpp"
#include "job/request_reader.hpp"
#include "tests/support/scratch_place.hpp"
#ifdef FLEXGEN_ARROW
#include <arrow/memory_pool.h>
#endif

namespace flexgen::test {
namespace {

const std::string folder = FLEXGEN_SOURCE_DIR "/tests/data/parquet/";

std::string bytes_of(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), {}};
}

std::string refusal_of(const InputFiles& files) {
  try {
    RequestReader{files, {}};
  } catch (const UserError& error) {
    EXPECT_EQ(error.code(), ExitCode::file);
    return error.what();
  }
  return "none";
}

#ifdef FLEXGEN_ARROW

std::vector<ParsedRow> read(const InputFiles& files, const RequestDefaults& defaults = {}) {
  RequestReader reader(files, defaults);
  std::vector<ParsedRow> rows;
  while (auto row = reader.next()) rows.push_back(*std::move(row));
  EXPECT_EQ(reader.share_read(), 1.0);
  return rows;
}

std::vector<ParsedRow> read(const std::string& path) { return read(InputFiles{{path}}); }

std::string shown(const ParsedRow& row) {
  if (const auto* error = std::get_if<RowError>(&row)) return error->custom_id + "!" + error->code;
  const auto& request = std::get<Request>(row);
  return request.custom_id + "|" + std::get<std::string>(request.prompts.at(0)) + "|" +
         std::to_string(request.max_tokens);
}

std::vector<std::string> shown(const std::vector<ParsedRow>& rows) {
  std::vector<std::string> texts;
  for (const ParsedRow& row : rows) texts.push_back(shown(row));
  return texts;
}

TEST(Parquet, ValuesOfEveryKindAreWhatJsonHas) {
  RequestDefaults defaults;
  defaults.kept_fields = std::make_shared<const KeptFields>("all");
  const std::vector<ParsedRow> rows = read({{folder + "kinds.parquet"}}, defaults);
  std::ifstream meant(folder + "kinds.jsonl");
  std::string line;
  for (const ParsedRow& row : rows) {
    ASSERT_TRUE(std::getline(meant, line));
    const auto got = nlohmann::json::parse(identity_of(row).kept_fields), wanted = nlohmann::json::parse(line);
    for (const auto& [name, value] : wanted.items()) EXPECT_EQ(got.at(name).dump(), value.dump()) << name;
    EXPECT_EQ(got.size(), wanted.size());
  }
  EXPECT_EQ(rows.size(), 3U);
}

TEST(Parquet, RowsAreRequests) {
  const std::vector<ParsedRow> rows = read(folder + "requests.parquet");
  EXPECT_EQ(shown(rows), (std::vector<std::string>{"7|x, \"y\"\nz|3", "8|\xC3\xA9|32", "line-3|x, \"y\"\nz|32",
                                                   "10!missing_field", "line-5!duplicate_custom_id"}))
      << "ids and integers of a table program";
  EXPECT_EQ(std::get<Request>(rows[0]).stop, (std::vector<std::string>{"\n", "."}));
  EXPECT_FALSE(std::get<Request>(rows[1]).names_max_tokens);
  EXPECT_EQ(std::get<Request>(rows[0]).unread_fields, std::vector<std::string>{"label"});

  const std::vector<ParsedRow> batch = read(folder + "batch.parquet");
  EXPECT_EQ(shown(batch), (std::vector<std::string>{"a|row 0|4", "b!unsupported_url"}));
  EXPECT_TRUE(identity_of(batch[1]).batch_format);
}

TEST(Parquet, TemplatesAndOtherInputs) {
  const ScratchPlace place;
  RequestDefaults defaults;
  defaults.prompt_template = std::make_shared<const PromptTemplate>("{label}: {prompt}");
  const std::vector<ParsedRow> rows =
      read({{folder + "requests.parquet", place.write("more.csv", "label,prompt\nx,y\n"), folder + "empty.parquet"}},
           defaults);
  EXPECT_EQ(shown(rows),
            (std::vector<std::string>{"7|a: x, \"y\"\nz|3", "8|b: \xC3\xA9|32", "line-3!missing_field",
                                      "10!missing_field", "line-5!duplicate_custom_id", "input-2-line-2|x: y|32"}));
  EXPECT_EQ(identity_of(rows.back()).ordinal, 5U);
  const std::string renamed = place.write("any name", bytes_of(folder + "batch.parquet"));
  EXPECT_EQ(read(renamed).size(), 2U) << "told by its beginning";
}

TEST(Parquet, ADamagedRowGroupCostsItsRows) {
  const ScratchPlace place;
  std::string bytes = bytes_of(folder + "groups.parquet");
  const std::size_t middle = bytes.size() / 2 - 200;
  for (std::size_t i = middle; i < middle + 100; ++i) bytes[i] = static_cast<char>(~bytes[i]);
  const std::string damaged = place.write("damaged.parquet", bytes);
  const std::vector<ParsedRow> rows = read({{damaged, folder + "batch.parquet"}});
  ASSERT_EQ(rows.size(), 62U);
  for (std::size_t i = 0; i < 60; ++i) {
    const bool is_lost = i >= 20 && i < 40;
    const auto* error = std::get_if<RowError>(&rows[i]);
    ASSERT_EQ(error != nullptr, is_lost) << i;
    EXPECT_EQ(identity_of(rows[i]).custom_id, (is_lost ? "line-" + std::to_string(i + 1) : "r" + std::to_string(i)));
    if (!is_lost) continue;
    EXPECT_EQ(error->code, "unreadable_row");
    EXPECT_NE(error->message.find("row group 2 of the file is damaged"), std::string::npos) << error->message;
  }
  EXPECT_EQ(shown(rows[60]), "a|row 0|4") << "the next file";
}

TEST(Parquet, WhatIsCutIsRefusedBeforeARowIsRead) {
  const ScratchPlace place;
  const std::string bytes = bytes_of(folder + "groups.parquet");
  for (const std::size_t size : {bytes.size() - 1, bytes.size() / 2, std::size_t{4}}) {
    const std::string cut = place.write("cut.parquet", bytes.substr(0, size));
    const std::string what = refusal_of({{folder + "batch.parquet", cut}});
    EXPECT_NE(what.find("cut.parquet"), std::string::npos) << what;
    EXPECT_NE(what.find("Fetch or write the file again"), std::string::npos) << what;
  }
  // Wherever it is damaged it is refused, or costs rows.
  for (std::size_t at = 0; at < bytes.size(); at += 7) {
    std::string broken = bytes;
    broken[at] = static_cast<char>(~broken[at]);
    const std::string path = place.write("broken.parquet", broken);
    try {
      RequestReader reader(path, {});
      for (int i = 0; i < 1000 && reader.next(); ++i) continue;
    } catch (const UserError& error) {
      EXPECT_EQ(error.code(), ExitCode::file) << at;
    }
  }
}

TEST(Parquet, WhatIsWrongWithColumnsIsSaid) {
  const std::vector<ParsedRow> rows = read(folder + "not_utf8.parquet");
  EXPECT_EQ(shown(rows), (std::vector<std::string>{"a!invalid_table_row", "b|fine|32"}));
  EXPECT_NE(refusal_of({{folder + "twice.parquet"}}).find("two of its columns are called 'prompt'"), std::string::npos);
  EXPECT_NE(refusal_of({{"-"}, InputFormat::parquet}).find("needs a regular file"), std::string::npos);
  RequestReader small(folder + "large.parquet", {}, 900);
  EXPECT_EQ(shown(*small.next()), "line-1!line_too_long");
}

TEST(Parquet, ALargeRowGroupIsNotHeldInMemory) {
  arrow::MemoryPool* pool = arrow::default_memory_pool();
  RequestReader reader(folder + "large.parquet", {});
  std::size_t count = 0, num_bytes = 0;
  while (const auto row = reader.next()) {
    ++count;
    num_bytes += std::get<std::string>(std::get<Request>(*row).prompts.at(0)).size();
  }
  EXPECT_EQ(count, 200'000U);
  EXPECT_EQ(num_bytes, 200'000'000U);
  EXPECT_LT(pool->max_memory(), 16'000'000);
}

#else

TEST(Parquet, ItIsSaidHowToReadIt) {
  const ScratchPlace place;
  const std::string renamed = place.write("any name", bytes_of(folder + "batch.parquet"));
  for (const std::string& path : {folder + "batch.parquet", renamed}) {
    const std::string what = refusal_of({{path}});
    EXPECT_NE(what.find("built without Arrow"), std::string::npos) << what;
    EXPECT_NE(what.find("pyarrow.parquet"), std::string::npos) << "a line that turns it into JSONL: " << what;
    EXPECT_NE(what.find("-DFLEXGEN_ARROW=ON"), std::string::npos) << what;
  }
}

#endif

}  // namespace
}  // namespace flexgen::test

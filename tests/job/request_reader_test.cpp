#include "job/request_reader.hpp"

#include <gtest/gtest.h>
#include <unistd.h>

#include <thread>

#include "base/error.hpp"
#include "tests/support/scratch_place.hpp"

namespace flexgen::test {
namespace {

/// "line:id" of a request, "line:id!code" of an error.
std::vector<std::string> read_all(RequestReader& reader) {
  std::vector<std::string> rows;
  while (const auto row = reader.next()) {
    const RowIdentity& identity = std::visit([](const auto& one) -> const RowIdentity& { return one; }, *row);
    rows.push_back(std::to_string(identity.line_number) + ":" + identity.custom_id);
    if (const auto* error = std::get_if<RowError>(&*row)) rows.back() += "!" + error->code;
  }
  EXPECT_FALSE(reader.next().has_value());  // the end stays the end
  return rows;
}

std::vector<std::string> read_all(std::string_view text, std::size_t max_line_bytes = 1000) {
  const ScratchPlace folder;
  RequestReader reader(folder.write("in.jsonl", text), {}, max_line_bytes);
  return read_all(reader);
}

using Rows = std::vector<std::string>;

TEST(RequestReader, LineEndsBlankLinesAndByteOrderMark) {
  EXPECT_EQ(read_all("\xEF\xBB\xBF{\"prompt\":\"a\"}\r\n\n  \t\r\n{\"prompt\":\"b\",\"custom_id\":\"q\"}\r\n"
                     "{\"prompt\":\"c\"}"),
            (Rows{"1:line-1", "4:q", "5:line-5"}));
  EXPECT_EQ(read_all(""), Rows{});
  EXPECT_EQ(read_all("\xEF\xBB\xBF"), Rows{});
  EXPECT_EQ(read_all("\n\r\n \n"), Rows{});
}

TEST(RequestReader, BadRowsCostThemselvesAlone) {
  EXPECT_EQ(read_all("{\"prompt\":\"a\"}\n{oops\n{\"prompt\":\"\xFF\"}\n{\"prompt\":\"b\"}\n"),
            (Rows{"1:line-1", "2:line-2!invalid_json", "3:line-3!invalid_json", "4:line-4"}));
}

TEST(RequestReader, BrokenRowsKeepTheirIds) {
  EXPECT_EQ(
      read_all("{\"custom_id\":\"a\",\"prompt\":\"x\",}\n{\"custom_id\":\"b\",\"prompt\":\"\xE9\"}\n"
               "{\"custom_id\":\"a\",\"prompt\":\"\n{\"custom_id\":\"b\",\"prompt\":\"x\"}\n"),
      (Rows{"1:a!invalid_json", "2:b!invalid_json", "3:line-3!duplicate_custom_id", "4:line-4!duplicate_custom_id"}));
}

TEST(RequestReader, NamesFieldsThatNothingReads) {
  const auto described = [](const std::string& text, bool is_scored = false) {
    const ScratchPlace folder;
    RequestReader reader(folder.write("in", text), {32, is_scored});
    read_all(reader);
    return reader.describe_unread_fields();
  };
  EXPECT_EQ(
      described("{\"prompt\":\"a\",\"custom_id\":\"q\",\"max_tokens\":3,\"stop\":\"x\",\"seed\":1,\"user\":\"u\"}\n"),
      "");
  EXPECT_EQ(described("{\"prompt\":\"a\",\"id\":1}\n\n{\"prompt\":\"b\",\"stopp\":\"x\",\"id\":2}\n{\"id\":3}\n"),
            "nothing reads these fields of rows: \"id\" (2 rows, first in line 1), \"stopp\" (1 row, first in line 3)");
  EXPECT_EQ(described("{\"prompt\":\"a\",\"text\":\"b\"}"),
            "nothing reads these fields of rows: \"text\" (1 row, first in line 1)");
  EXPECT_EQ(described("{\"text\":\"b\"}", true), "");
  EXPECT_EQ(described("{\"custom_id\":\"q\",\"method\":\"POST\",\"url\":\"/v1/completions\",\"note\":3,"
                      "\"body\":{\"prompt\":\"x\"}}"),
            "");
  std::string many = "{\"prompt\":\"a\"";
  for (int i = 0; i < 20; ++i) many += ",\"f" + std::to_string(i) + "\\u001b[31m" + std::string(100, 'x') + "\":0";
  const std::string text = described(many + "}");
  EXPECT_NE(text.find(", and perhaps more"), std::string::npos) << text;
  EXPECT_EQ(text.find('\x1b'), std::string::npos) << text;
  EXPECT_LT(text.size(), 1200u);
}

TEST(RequestReader, DuplicateIds) {
  const ScratchPlace folder;
  RequestReader reader(folder.write("in",
                                    "{\"prompt\":\"a\",\"custom_id\":\"q\"}\n{\"prompt\":\"b\"}\n"
                                    "{\"prompt\":\"c\",\"custom_id\":\"q\"}\n{\"prompt\":1,\"custom_id\":\"r\"}\n"
                                    "{\"prompt\":\"d\",\"custom_id\":\"r\"}\n"),
                       {});
  reader.next();
  reader.next();
  const auto error = std::get<RowError>(reader.next().value());
  EXPECT_EQ(error.code, "duplicate_custom_id");
  EXPECT_EQ(error.custom_id, "line-3");
  EXPECT_NE(error.message.find("'q' of line 3 was already used on line 1"), std::string::npos) << error.message;
  EXPECT_EQ(read_all(reader), (Rows{"4:r!invalid_field", "5:line-5!duplicate_custom_id"}));
}

TEST(RequestReader, MadeUpIdsNeverMeetIdsOfTheUser) {
  EXPECT_EQ(read_all("{\"prompt\":\"a\",\"custom_id\":\"line-2\"}\n{\"prompt\":\"b\"}\n"
                     "{\"prompt\":\"c\",\"custom_id\":\"line-2-2\"}\n{\"prompt\":\"d\",\"custom_id\":\"line-2\"}\n"),
            (Rows{"1:line-2", "2:line-2-2", "3:line-3!duplicate_custom_id", "4:line-4!duplicate_custom_id"}));
}

TEST(RequestReader, LineLimit) {
  const auto row = [](std::size_t size) { return "{\"prompt\":\"" + std::string(size - 13, 'x') + "\"}"; };
  EXPECT_EQ(read_all(row(1000) + "\n" + row(1001) + "\n" + row(20) + "\n" + row(1'000'000)),
            (Rows{"1:line-1", "2:line-2!line_too_long", "3:line-3", "4:line-4!line_too_long"}));
}

TEST(RequestReader, ALineThatIsTooLongKeepsItsId) {
  const std::string long_text(2000, 'x');
  const ScratchPlace folder;
  RequestReader reader(
      folder.write("in.jsonl", "{\"custom_id\":\"a\",\"method\":\"POST\",\"body\":{\"prompt\":\"" + long_text +
                                   "\"}}\n{\"prompt\":\"" + long_text + "\",\"custom_id\":\"b\"}\n"),
      {}, 1000);
  const auto error = std::get<RowError>(reader.next().value());
  EXPECT_EQ(error.code, "line_too_long");
  EXPECT_EQ(error.custom_id, "a");
  EXPECT_TRUE(error.batch_format);
  EXPECT_EQ(read_all(reader), Rows{"2:line-2!line_too_long"}) << "that id lies behind the limit";
}

TEST(RequestReader, RowsThatCrossReadsArriveWhole) {
  std::string text;
  for (int i = 0; i < 40; ++i)
    text += "{\"custom_id\":\"" + std::to_string(i) + "\",\"prompt\":\"" + std::string(37'000u + i * 7u, 'x') + "\"}\n";
  const ScratchPlace folder;
  RequestReader reader(folder.write("in.jsonl", text), {});
  for (int i = 0; i < 40; ++i) {
    const auto request = std::get<Request>(reader.next().value());
    EXPECT_EQ(request.custom_id, std::to_string(i));
    EXPECT_EQ(std::get<std::string>(request.prompts[0]), std::string(37'000u + i * 7u, 'x'));
  }
  EXPECT_FALSE(reader.next());
}

TEST(RequestReader, StandardInput) {
  int ends[2];
  ASSERT_EQ(::pipe(ends), 0);
  const int saved = ::dup(STDIN_FILENO);
  ::dup2(ends[0], STDIN_FILENO);
  std::thread writer([fd = ends[1]] {
    for (const std::string_view part : {"{\"prompt\":", "\"a\"}\n{\"pro", "mpt\":\"b\"}"})
      EXPECT_EQ(::write(fd, part.data(), part.size()), static_cast<ssize_t>(part.size()));
    ::close(fd);
  });
  {
    RequestReader reader("-", {});
    EXPECT_EQ(read_all(reader), (Rows{"1:line-1", "2:line-2"}));
  }
  writer.join();
  EXPECT_EQ(::dup2(saved, STDIN_FILENO), STDIN_FILENO);
  ::close(saved);
  ::close(ends[0]);
}

TEST(RequestReader, AWrongKindOfFileIsOneErrorBeforeAnyRow) {
  const ScratchPlace folder;
  const std::string path = folder.write("rows", "[{\"prompt\":\"a\"},\n{\"prompt\":\"b\"}]\n");
  try {
    RequestReader reader(path, {});
    ADD_FAILURE();
  } catch (const UserError& error) {
    EXPECT_EQ(error.code(), ExitCode::file);
    EXPECT_EQ(error.what(), "cannot read rows from '" + path +
                                "': it is one JSON array. Write one object per line, e.g. with jq -c '.[]'");
  }
}

TEST(RequestReader, FilesThatCannotBeRead) {
  const ScratchPlace folder;
  for (const std::string& path : {folder.file("missing.jsonl"), folder.file("")}) {
    try {
      RequestReader reader(path, {});
      ADD_FAILURE() << path;
    } catch (const UserError& error) {
      EXPECT_EQ(error.code(), ExitCode::file);
      EXPECT_NE(std::string(error.what()).find(path), std::string::npos) << error.what();
    }
  }
}

}  // namespace
}  // namespace flexgen::test

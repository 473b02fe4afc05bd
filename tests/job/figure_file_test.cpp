#include "job/figure_file.hpp"

#include <gtest/gtest.h>
#include <unistd.h>

#include <filesystem>

#include "base/error.hpp"
#include "base/trace.hpp"
#include "job/report.hpp"
#include "spec/hardware_profile.hpp"
#include "tests/support/scratch_place.hpp"

namespace flexgen::test {
namespace {

namespace fs = std::filesystem;

bool is_accepted(const std::string& path, FigureKind kind) {
  try {
    check_figure_file(path, kind, "--figures");
    return true;
  } catch (const UserError& error) {
    EXPECT_EQ(error.code(), ExitCode::file);
    EXPECT_NE(std::string(error.what()).find("--figures"), std::string::npos) << error.what();
    EXPECT_NE(std::string(error.what()).find(path), std::string::npos) << error.what();
    return false;
  }
}

TEST(FigureFile, ReplacesFiguresOfItsOwnKindAlone) {
  const ScratchPlace folder;
  const std::string report = folder.file("report.json"), trace = folder.file("trace.json");
  write_report(Report{}, report);
  write_trace(trace, {chrome_trace_events({TraceEvent{Resource::compute, "sweep", 5, 9}}, 0, 0),
                      chrome_trace_events({}, 1, 0)});
  const std::string profile = folder.write("profile.json", to_json(HardwareProfile{}));
  const std::string torn = folder.write("torn.json", file_text(trace).substr(0, 120));
  const std::string empty = folder.write("empty", "");
  const std::string page = folder.write("page.html", std::string(page_marker) + "<html lang=\"en\">");
  const std::string diagnosis =
      folder.write("doctor.json", "{\"schema_version\": 1, \"program\": \"flexgen-dist\", \"verdict\": \"ready\"}");
  const std::string verified =
      folder.write("verify.json", "{\"schema_version\": 1, \"program\": \"flexgen-dist\", \"closeness\": \"exact\"}");
  const std::string plan =
      folder.write("plan.json", "{\"schema_version\": 1, \"program\": \"flexgen-dist\", \"ways\": []}");
  for (const FigureKind kind : {FigureKind::report, FigureKind::page, FigureKind::trace, FigureKind::profile,
                                FigureKind::diagnosis, FigureKind::verification, FigureKind::plan}) {
    EXPECT_EQ(is_accepted(plan, kind), kind == FigureKind::plan);
    EXPECT_EQ(is_accepted(verified, kind), kind == FigureKind::verification);
    EXPECT_EQ(is_accepted(diagnosis, kind), kind == FigureKind::diagnosis);
    EXPECT_EQ(is_accepted(page, kind), kind == FigureKind::page);
    EXPECT_EQ(is_accepted(report, kind), kind == FigureKind::report);
    EXPECT_EQ(is_accepted(trace, kind), kind == FigureKind::trace);
    EXPECT_EQ(is_accepted(torn, kind), kind == FigureKind::trace) << "of a job that was killed";
    EXPECT_EQ(is_accepted(profile, kind), kind == FigureKind::profile);
    EXPECT_TRUE(is_accepted(empty, kind));
    EXPECT_TRUE(is_accepted(folder.file("new.json"), kind));
    EXPECT_TRUE(is_accepted("-", kind));
    for (const char* text : {"precious\n", "{}", "[]", "{\"custom_id\": 1}\n{\"custom_id\": 2}\n", "\n",
                             "{\"program\": \"flexgen-dist\"}", "<!doctype html>\n<p>", "{\"traceEvents\": []}",
                             "{\"a\": {\"schema_version\": 1, \"program\": \"flexgen-dist\", \"throughput\": 1}}"})
      EXPECT_FALSE(is_accepted(folder.write("other", text), kind)) << text;
  }
}

TEST(FigureFile, LinksAreFollowed) {
  const ScratchPlace folder;
  fs::create_symlink(folder.write("rows.jsonl", "precious\n"), folder.file("link"));
  EXPECT_FALSE(is_accepted(folder.file("link"), FigureKind::report));
  fs::create_symlink(folder.file("end"), folder.file("dangling"));
  EXPECT_TRUE(is_accepted(folder.file("dangling"), FigureKind::report));
  write_figure_file(folder.file("dangling"), {"a", "b"}, FigureKind::report, "--report");
  EXPECT_TRUE(fs::is_symlink(folder.file("dangling")));
  EXPECT_EQ(file_text(folder.file("end")), "ab");
}

TEST(FigureFile, PlacesThatCannotBeWritten) {
  const ScratchPlace folder;
  const std::string file = folder.write("file", "");
  EXPECT_FALSE(is_accepted(folder.file(""), FigureKind::trace));
  EXPECT_FALSE(is_accepted(file + "/below", FigureKind::trace));
  EXPECT_FALSE(is_accepted(folder.file("typo/trace.json"), FigureKind::trace));
  EXPECT_EQ(folder.num_entries(), 1u);
  EXPECT_TRUE(is_accepted("/dev/null", FigureKind::trace));
  if (::access("/dev/full", W_OK) == 0) {
    EXPECT_THROW(write_figure_file("/dev/full", {"x"}, FigureKind::trace, "--trace"), UserError);
  }
}

}  // namespace
}  // namespace flexgen::test

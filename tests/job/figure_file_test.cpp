#include "job/figure_file.hpp"

#include <gtest/gtest.h>
#include <unistd.h>

#include <filesystem>

#include "base/error.hpp"
#include "base/trace.hpp"
#include "job/report.hpp"
#include "spec/hardware_profile.hpp"
#include "tests/job/scratch_folder.hpp"

namespace flexgen {
namespace {

namespace fs = std::filesystem;
using flexgen::testing::read_text;
using flexgen::testing::ScratchFolder;

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
  const ScratchFolder folder;
  const std::string report = folder.path("report.json"), trace = folder.path("trace.json");
  write_report(Report{}, report);
  write_trace(trace, {chrome_trace_events({TraceEvent{Resource::compute, "sweep", 5, 9}}, 0, 0),
                      chrome_trace_events({}, 1, 0)});
  const std::string profile = folder.write("profile.json", to_json(HardwareProfile{}));
  const std::string torn = folder.write("torn.json", read_text(trace).substr(0, 120));
  const std::string empty = folder.write("empty", "");
  for (const FigureKind kind : {FigureKind::report, FigureKind::trace, FigureKind::profile}) {
    EXPECT_EQ(is_accepted(report, kind), kind == FigureKind::report);
    EXPECT_EQ(is_accepted(trace, kind), kind == FigureKind::trace);
    EXPECT_EQ(is_accepted(torn, kind), kind == FigureKind::trace) << "of a job that was killed";
    EXPECT_EQ(is_accepted(profile, kind), kind == FigureKind::profile);
    EXPECT_TRUE(is_accepted(empty, kind));
    EXPECT_TRUE(is_accepted(folder.path("new.json"), kind));
    EXPECT_TRUE(is_accepted("-", kind));
    for (const char* text : {"precious\n", "{}", "[]", "{\"custom_id\": 1}\n{\"custom_id\": 2}\n", "\n",
                             "{\"program\": \"flexgen-dist\"}", "{\"traceEvents\": []}",
                             "{\"a\": {\"schema_version\": 1, \"program\": \"flexgen-dist\", \"throughput\": 1}}"})
      EXPECT_FALSE(is_accepted(folder.write("other", text), kind)) << text;
  }
}

TEST(FigureFile, LinksAreFollowed) {
  const ScratchFolder folder;
  fs::create_symlink(folder.write("rows.jsonl", "precious\n"), folder.path("link"));
  EXPECT_FALSE(is_accepted(folder.path("link"), FigureKind::report));
  fs::create_symlink(folder.path("end"), folder.path("dangling"));
  EXPECT_TRUE(is_accepted(folder.path("dangling"), FigureKind::report));
  write_figure_file(folder.path("dangling"), {"a", "b"}, FigureKind::report, "--report");
  EXPECT_TRUE(fs::is_symlink(folder.path("dangling")));
  EXPECT_EQ(read_text(folder.path("end")), "ab");
}

TEST(FigureFile, PlacesThatCannotBeWritten) {
  const ScratchFolder folder;
  const std::string file = folder.write("file", "");
  EXPECT_FALSE(is_accepted(folder.path(""), FigureKind::trace));
  EXPECT_FALSE(is_accepted(file + "/below", FigureKind::trace));
  EXPECT_FALSE(is_accepted(folder.path("typo/trace.json"), FigureKind::trace));
  EXPECT_EQ(folder.num_entries(), 1u);
  EXPECT_TRUE(is_accepted("/dev/null", FigureKind::trace));
  if (::access("/dev/full", W_OK) == 0) {
    EXPECT_THROW(write_figure_file("/dev/full", {"x"}, FigureKind::trace, "--trace"), UserError);
  }
}

}  // namespace
}  // namespace flexgen

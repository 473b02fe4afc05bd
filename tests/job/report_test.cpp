#include "job/report.hpp"

#include <gtest/gtest.h>

#include <cmath>
#include <filesystem>
#include <limits>
#include <nlohmann/json.hpp>

#include "base/error.hpp"
#include "tests/support/scratch_place.hpp"

namespace flexgen::test {
namespace {

using Json = nlohmann::json;

RankReport rank(int number, std::uint64_t scale) {
  RankReport report;
  report.rank = number;
  report.host = "box" + std::to_string(number);
  report.device = "cpu";
  report.first_layer = number * 24;
  report.num_layers = 24;
  report.tiers.gpu = {
      1000 * scale, {10 * scale, 20 * scale, 30 * scale}, {11 * scale, 19 * scale, 30 * scale}, 500 * scale};
  report.tiers.dram = {9000 * scale, {1, 2, 3}, {1, 2, 3}, 7};
  report.resources["compute"] = {8.5, 0, 12, 8.5};
  report.resources["host_to_gpu"] = {29.0, 1 << 20, 48, 12.0};  // loading included; copies of several streams add up
  report.resources_by_phase.prefill["compute"] = {1.5, 0, 4, 1.5};
  report.resources_by_phase.decode["compute"] = {7.0, 0, 8, 7.0};
  report.resources_by_phase.prefill["host_to_gpu"] = {3.0, 1 << 18, 8, 2.0};
  report.resources_by_phase.decode["host_to_gpu"] = {13.0, 1 << 19, 36, 7.0};
  report.sweep_seconds = 10;
  report.waits = {0.25, 1, 0.125, 0.5};
  report.busy_fraction = 0.85;
  report.load_seconds = 3;
  report.peak_host_bytes = 123;
  return report;
}

Report sample() {
  Report report;
  report.version = "0.1.0";
  report.command = "generate";
  report.model = {"facebook/opt-30b", "opt", 48, 7168, 29'974'540'288};
  report.policy.flags = "--percent 20 80 0 100 0 100";
  report.policy.dtype = "float16";
  report.policy.gpu_batch_size = 8;
  report.policy.num_gpu_batches = 4;
  report.policy.percent = {20, 80, 0, 100, 0, 100};
  report.policy.overlap = true;
  report.job = {40, 1, 39, 3900, 429};
  report.timing = {3, 2, 8, 14};
  report.throughput = measure_throughput(report.job, report.timing);
  report.sweeps = {{10, 2, 78, 3900, 0}, {10, 8, 312, 0, 390}, {}, 6400, 5760};
  report.ranks = {rank(0, 1), rank(1, 2)};
  return report;
}

Report with_roofline() {
  Report report = sample();
  report.lengths.emplace();
  RooflineReport& roofline = report.roofline.emplace();
  roofline.profile = "p.json (today)";
  roofline.bound_tokens_per_second = 50;
  roofline.fraction = 0.858;
  roofline.rank = 1;
  roofline.binding_phase = "decode";
  roofline.binding_resource = "host_to_gpu";
  roofline.advice = "a larger block";
  const double unknown = std::numeric_limits<double>::quiet_NaN();
  roofline.prefill = {1.5, 2, {{"matrix", 1.5, 1.6, 0, 3e12, unknown}}};
  roofline.decode = {
      7, 8, {{"host_to_gpu", 7, 7.6, 2 << 20, 0, 3 << 20}, {"host_memory", 3, unknown, 1 << 20, 0, unknown}}};
  roofline.rank_least_seconds = {8, 8.5};
  return report;
}

TEST(Report, RoundTrip) {
  const Json json = Json::parse(to_json(sample()));
  EXPECT_EQ(json["schema_version"], 1);
  EXPECT_EQ(json["program"], "flexgen-dist");
  EXPECT_EQ(json["command"], "generate");
  EXPECT_EQ(json["model"]["parameters"], 29'974'540'288u);
  EXPECT_EQ(json["model"]["hidden"], 7168);
  EXPECT_EQ(json["policy"]["percent"], (std::vector<double>{20, 80, 0, 100, 0, 100}));
  EXPECT_EQ(json["policy"]["overlap"], true);
  EXPECT_EQ(json["policy"]["compress_cache"], false);
  EXPECT_EQ(json["job"]["failed_rows"], 1);
  EXPECT_EQ(json["timing"]["total_seconds"], 14.0);
  EXPECT_DOUBLE_EQ(json["throughput"]["tokens_per_second"], 42.9);
  EXPECT_DOUBLE_EQ(json["throughput"]["prefill_tokens_per_second"], 1950.0);
  EXPECT_DOUBLE_EQ(json["throughput"]["decode_tokens_per_second"], 48.75);
  ASSERT_EQ(json["ranks"].size(), 2u);
  const Json& second = json["ranks"][1];
  EXPECT_EQ(second["host"], "box1");
  EXPECT_EQ(second["first_layer"], 24);
  EXPECT_EQ(second["tiers"]["gpu"]["requested_bytes"], 120);
  EXPECT_EQ(second["tiers"]["gpu"]["achieved_bytes_by_class"]["weights"], 22);
  EXPECT_EQ(second["resources"]["host_to_gpu"]["bytes"], 1 << 20);
  EXPECT_EQ(second["resources"]["compute"]["busy_seconds"], 8.5);
  EXPECT_EQ(second["busy_fraction"], 0.85);
  EXPECT_EQ(second["waits"]["load_seconds"], 0.25);
  EXPECT_EQ(second["waits"]["receive_seconds"], 1.0);
  EXPECT_EQ(second["waits"]["send_seconds"], 0.125);
  EXPECT_EQ(second["waits"]["turn_seconds"], 0.5);
}

TEST(Report, Roofline) {
  EXPECT_TRUE(Json::parse(to_json(sample()))["roofline"].is_null());
  const Json json = Json::parse(to_json(with_roofline()))["roofline"];
  EXPECT_EQ(json["bound_tokens_per_second"], 50.0);
  EXPECT_EQ(json["fraction"], 0.858);
  EXPECT_EQ(json["binding_resource"], "host_to_gpu");
  EXPECT_EQ(json["advice"], "a larger block");
  const Json& link = json["phases"]["decode"]["resources"]["host_to_gpu"];
  EXPECT_EQ(link["least_seconds"], 7.0);
  EXPECT_EQ(link["busy_seconds"], 7.6);
  EXPECT_EQ(link["bytes"], 3.0 * (1 << 20));
  EXPECT_TRUE(json["phases"]["decode"]["resources"]["host_memory"]["busy_seconds"].is_null());
  EXPECT_EQ(json["phases"]["prefill"]["resources"]["matrix"]["operations"], 3e12);

  const std::string text = summary(with_roofline());
  EXPECT_EQ(text.substr(text.find("roofline")),
            "roofline    of rank 1, the slowest stage\n"
            "prefill     resource           least s    busy s  busy %  bytes\n"
            "            matrix               1.500     1.600      80  3 TFLOP\n"
            "            whole phase          1.500     2.000\n"
            "decode      resource           least s    busy s  busy %  bytes\n"
            "            host_to_gpu          7.000     7.600      95  2.00 MiB (moved 3.00 MiB)\n"
            "            host_memory          3.000         -       -  1.00 MiB\n"
            "            whole phase          7.000     8.000\n"
            "roofline    at most 50.00 tokens/s by p.json (today); reached 86 %\n"
            "bound by    host_to_gpu (decode); what would help most: a larger block\n");
}

TEST(Report, WhatWasPredictedStandsBesideTheRoofline) {
  Report report = with_roofline();
  EXPECT_TRUE(Json::parse(to_json(report))["predicted"].is_null());
  EXPECT_TRUE(Json::parse(to_json(report))["plan_check"].empty());
  report.predicted = {8, 53.6, 16, 1, "host_to_gpu"};
  report.plan_check = {{1, 6, 2.5, 4, "host_to_gpu", 50e9, 30e9, "the profile p.json is corrected", 1024, 512}};
  const Json json = Json::parse(to_json(report));
  EXPECT_EQ(json["predicted"]["seconds"], 8.0);
  EXPECT_EQ(json["predicted"]["tokens_per_second"], 53.6);
  EXPECT_EQ(json["predicted"]["rank"], 1);
  EXPECT_EQ(json["predicted"]["binding_resource"], "host_to_gpu");
  const Json& check = json["plan_check"][0];
  EXPECT_EQ(check["rank"], 1);
  EXPECT_EQ(check["sweeps"], 6);
  EXPECT_EQ(check["predicted_seconds"], 2.5);
  EXPECT_EQ(check["measured_seconds"], 4.0);
  EXPECT_EQ(check["wrong_ceiling"], "host_to_gpu");
  EXPECT_EQ(check["profile_rate"], 50e9);
  EXPECT_EQ(check["measured_rate"], 30e9);
  EXPECT_EQ(check["correction"], "the profile p.json is corrected");
  EXPECT_EQ(check["planned_tokens"], 1024);
  EXPECT_EQ(check["replanned_tokens"], 512);
  EXPECT_NE(summary(report).find(
                "predicted   8.00 s, 53.60 tokens/s, bound by host_to_gpu; it took 1.25 times as long\nroofline "),
            std::string::npos);
}

TEST(Report, ARooflineOfSweepsThatMixIsOneTable) {
  Report report = with_roofline();
  RooflineReport& roofline = *report.roofline;
  roofline.mixed = std::exchange(roofline.decode, {});
  roofline.prefill = {};
  roofline.binding_phase = "mixed";
  EXPECT_EQ(Json::parse(to_json(report))["roofline"]["phases"]["mixed"]["measured_seconds"], 8.0);
  const std::string text = summary(report);
  EXPECT_NE(text.find("slowest stage\nall sweeps  resource"), std::string::npos) << text;
  EXPECT_EQ(text.find("prefill     resource"), std::string::npos);
  EXPECT_NE(text.find("host_to_gpu (mixed)"), std::string::npos);
}

TEST(Report, ResourcesOfAllPhasesAddUp) {
  PhaseResources phases;
  phases.prefill["compute"] = {1, 10, 2, 0.5};
  phases.mixed["compute"] = {2, 20, 3, 1.5};
  phases.decode["disk_read"] = {4, 40, 5, 4};
  const ResourceReports all = phases.sum();
  EXPECT_EQ(all.size(), 2U);
  EXPECT_EQ(all.at("compute").busy_seconds, 3);
  EXPECT_EQ(all.at("compute").bytes, 30U);
  EXPECT_EQ(all.at("compute").count, 5U);
  EXPECT_EQ(all.at("compute").occupied_seconds, 2);
  EXPECT_EQ(all.at("disk_read").occupied_seconds, 4);
}

TEST(Report, TiersAreSummedOverRanks) {
  const Json tiers = Json::parse(to_json(sample()))["tiers"];
  EXPECT_EQ(tiers["gpu"]["requested_bytes"], 180);
  EXPECT_EQ(tiers["gpu"]["achieved_bytes"], 180);
  EXPECT_EQ(tiers["gpu"]["peak_bytes"], 1500);
  EXPECT_EQ(tiers["gpu"]["achieved_bytes_by_class"]["cache"], 57);
  EXPECT_EQ(tiers["dram"]["peak_bytes"], 14);
  EXPECT_EQ(tiers["ssd"]["requested_bytes"], 0);
}

TEST(Report, EveryFieldIsDocumented) {
  const std::string documentation = file_text(std::string(FLEXGEN_SOURCE_DIR) + "/src/job/REPORT.md");
  const Json json = Json::parse(to_json(with_roofline()));
  const auto expect_keys = [&](const Json& object) {
    for (const auto& [name, value] : object.items())
      EXPECT_NE(documentation.find(name), std::string::npos) << name << " is missing in REPORT.md";
  };
  for (const Json& object :
       {json, json["model"], json["policy"], json["job"], json["timing"], json["throughput"], json["tiers"],
        json["sweeps"], json["sweeps"]["mixed"], json["lengths"], json["lengths"]["prompt"], json["tiers"]["gpu"],
        json["ranks"][0], json["ranks"][0]["resources"], json["ranks"][0]["resources"]["compute"], json["roofline"],
        json["roofline"]["phases"]["decode"], json["roofline"]["phases"]["decode"]["resources"],
        json["roofline"]["phases"]["decode"]["resources"]["host_to_gpu"]})
    expect_keys(object);
}

TEST(Report, NothingDividesByZero) {
  const ThroughputReport nothing = measure_throughput({}, {});
  EXPECT_EQ(nothing.tokens_per_second, 0);
  EXPECT_EQ(nothing.decode_tokens_per_second, 0);
  EXPECT_EQ(measure_throughput({1, 0, 4, 8, 3}, {0, 1, 1, 2}).decode_tokens_per_second, 0);  // fewer than sequences
  Report report = sample();
  report.ranks[0].busy_fraction = std::numeric_limits<double>::quiet_NaN();
  EXPECT_TRUE(Json::parse(to_json(report))["ranks"][0]["busy_fraction"].is_null());
}

TEST(Report, ResourcesComeUnderTheirNames) {
  TotalsByResource totals{};
  totals[static_cast<std::size_t>(Resource::disk_read)] = {2'500'000'000, 77, 3};
  const auto reports = resource_reports(totals);
  EXPECT_EQ(reports.size(), num_resources);
  EXPECT_DOUBLE_EQ(reports.at("disk_read").busy_seconds, 2.5);
  EXPECT_EQ(reports.at("disk_read").bytes, 77u);
  EXPECT_EQ(reports.at("disk_read").count, 3u);
}

TEST(Report, FileIsReplacedAsAWhole) {
  const ScratchPlace folder;
  const std::string path = folder.file("report.json");
  write_report(sample(), path);
  EXPECT_EQ(file_text(path), to_json(sample()));
  Report changed = sample();
  changed.command = "bench";
  std::filesystem::create_symlink(path, folder.file("link.json"));
  write_report(changed, folder.file("link.json"));
  EXPECT_TRUE(std::filesystem::is_symlink(folder.file("link.json")));
  EXPECT_EQ(file_text(path), to_json(changed));
  EXPECT_EQ(folder.num_entries(), 2u);  // the report and the link: no temporary file stays
}

TEST(Report, PathsThatCannotBeWritten) {
  const ScratchPlace folder;
  const std::string file = folder.write("file", "x");
  for (const std::string& path : {folder.file(""), file + "/report.json"}) {
    try {
      write_report(sample(), path);
      ADD_FAILURE() << path;
    } catch (const UserError& error) {
      EXPECT_EQ(error.code(), ExitCode::file);
    }
  }
  EXPECT_EQ(folder.num_entries(), 1u);
}

TEST(Report, DevicesAreWrittenToAndStay) {
  if (!std::filesystem::is_character_file("/dev/null")) GTEST_SKIP() << "no /dev/null";
  write_report(sample(), "/dev/null");
  EXPECT_TRUE(std::filesystem::is_character_file("/dev/null"));
}

TEST(Report, OfRowsOfUnlikeLengths) {
  Report report = sample();
  EXPECT_TRUE(Json::parse(to_json(report))["lengths"].is_null());
  report.lengths = LengthsReport{{32, 512, 250.25}, {16, 16, 16}, 7, ""};
  const Json json = Json::parse(to_json(report))["lengths"];
  EXPECT_EQ(json["prompt"]["least"], 32);
  EXPECT_EQ(json["prompt"]["mean"], 250.25);
  EXPECT_EQ(json["generated"]["most"], 16);
  EXPECT_EQ(json["seed"], 7);
  const std::string text = summary(report);
  EXPECT_NE(text.find("lengths     prompts of 32 .. 512 (mean 250.2), 16 .. 16 (mean 16.0) generated, seed 7\n"),
            std::string::npos)
      << text;
  report.lengths->input = "rows.jsonl";
  EXPECT_NE(summary(report).find("generated, as in rows.jsonl\n"), std::string::npos);
  report.lengths = LengthsReport{{512, 512, 512}, {32, 32, 32}, 7, ""};
  EXPECT_EQ(summary(report).find("lengths"), std::string::npos) << "all alike";
}

TEST(Report, MixedSweepsHaveNoRateOfTheirOwn) {
  Report report = sample();
  report.timing = {3, 1, 2, 14, 7};
  report.sweeps = {{1, 1, 16, 320, 0}, {4, 2, 60, 0, 60}, {20, 7, 600, 3580, 330}, 6400, 6400};
  report.throughput = measure_throughput(report.job, report.timing);
  const Json json = Json::parse(to_json(report));
  EXPECT_DOUBLE_EQ(json["throughput"]["tokens_per_second"], 42.9);
  EXPECT_DOUBLE_EQ(json["throughput"]["read_tokens_per_second"], 429.0);
  EXPECT_TRUE(json["throughput"]["prefill_tokens_per_second"].is_null());
  EXPECT_TRUE(json["throughput"]["decode_tokens_per_second"].is_null());
  EXPECT_EQ(json["timing"]["mixed_seconds"], 7.0);
  EXPECT_EQ(json["sweeps"]["mixed"]["sweeps"], 20);
  EXPECT_EQ(json["sweeps"]["mixed"]["prompt_tokens"], 3580);
  EXPECT_EQ(json["sweeps"]["rows_per_sweep"], 27.04);
  const std::string text = summary(report);
  EXPECT_NE(text.find("prefill 1.00 s, decode 2.00 s, both together 7.00 s, total"), std::string::npos) << text;
  EXPECT_NE(text.find("throughput  42.90 tokens/s (429.00 with the prompts' tokens)\n"), std::string::npos) << text;
  EXPECT_NE(text.find("blocks      27.0 of 32 rows in a sweep, 100 % of the cache"), std::string::npos) << text;
}

TEST(Report, OfAJobThatScores) {
  Report report = sample();
  report.command = "score";
  report.job = {40, 1, 50, 4000, 0, 3950};
  report.timing = {3, 2, 0, 5};
  report.throughput = measure_throughput(report.job, report.timing);
  EXPECT_EQ(report.throughput.tokens_per_second, 1975);
  EXPECT_TRUE(Json::parse(to_json(report))["score"].is_null());
  report.score = ScoreReport{3950, -7900};
  const Json json = Json::parse(to_json(report));
  EXPECT_EQ(json["score"]["tokens"], 3950);
  EXPECT_EQ(json["score"]["log_probability"], -7900);
  EXPECT_NEAR(json["score"]["perplexity"].get<double>(), std::exp(2.0), 1e-12);
  EXPECT_EQ(json["job"]["scored_tokens"], 3950);
  const std::string text = summary(report);
  EXPECT_NE(text.find("tokens      4000 read, 3950 scored\n"), std::string::npos) << text;
  EXPECT_NE(text.find("throughput  1975.00 tokens scored/s\n"), std::string::npos) << text;
  EXPECT_NE(text.find("perplexity  7.3891 over 3950 tokens\n"), std::string::npos) << text;
  report.score = ScoreReport{};
  EXPECT_EQ(summary(report).find("perplexity"), std::string::npos);
  EXPECT_TRUE(Json::parse(to_json(report))["score"]["perplexity"].is_null());
}

TEST(Report, WhatBecameOfRows) {
  Report report = sample();
  EXPECT_TRUE(Json::parse(to_json(report))["errors"].is_null());
  EXPECT_TRUE(Json::parse(to_json(report))["row_lengths"].is_null());
  RowTally tally;
  tally.add_error("invalid_json");
  tally.add_sequence(10, 4);
  tally.add_sequence(12, 2);
  report.rows = tally.report();
  const Json json = Json::parse(to_json(report));
  EXPECT_EQ(json["errors"], (Json{{"invalid_json", 1}}));
  EXPECT_EQ(json["row_lengths"]["prompt"]["count"], 2);
  EXPECT_EQ(json["row_lengths"]["prompt"]["bins"], (Json{1, 0, 1}));
  EXPECT_EQ(json["row_lengths"]["generated"]["mean"], 3);
  const std::string text = summary(report);
  EXPECT_NE(text.find("errors      1 invalid_json\n"), std::string::npos) << text;
  EXPECT_NE(text.find("lengths     prompts of 10 .. 12 (mean 11.0), 2 .. 4 (mean 3.0) generated, in tokens\n"),
            std::string::npos)
      << text;
}

TEST(Report, EnergyAndWhatTheDiskTook) {
  Report report = sample();
  EXPECT_TRUE(Json::parse(to_json(report))["energy"].is_null());
  EXPECT_EQ(Json::parse(to_json(report))["ssd_bytes_written"], 0);
  // Two ranks on one GPU, and each with the processors of a machine of its own.
  report.ranks[0].energy = {{"gpu", "0000:3b:00.0", "box", 900}, {"processor", "package-0", "box", 100}};
  report.ranks[1].energy = {{"gpu", "0000:3b:00.0", "box", 1000}, {"processor", "package-0", "box1", 200}};
  for (RankReport& one : report.ranks) one.resources["disk_write"] = {1, 3 << 20, 2, 1};
  const Json json = Json::parse(to_json(report));
  EXPECT_EQ(json["energy"]["joules"], 1300);
  EXPECT_EQ(json["energy"]["devices"].size(), 3U);
  EXPECT_EQ(json["ssd_bytes_written"], 6 << 20);
  const std::string text = summary(report);
  EXPECT_NE(text.find("energy      1 kJ by gpus, 0.3 kJ by processors, 3.03 J a token\n"), std::string::npos) << text;
  EXPECT_NE(text.find("written     6.00 MiB to the ssd tier\n"), std::string::npos) << text;
}

TEST(Report, Summary) {
  EXPECT_EQ(
      summary(sample()),
      "model       facebook/opt-30b, 48 layers, hidden 7168, 30.0 B parameters, float16\n"
      "policy      --percent 20 80 0 100 0 100\n"
      "rows        40 (39 ok, 1 failed)\n"
      "tokens      3900 prompt, 429 generated\n"
      "time        load 3.00 s, prefill 2.00 s, decode 8.00 s, total 14.00 s\n"
      "throughput  42.90 tokens/s (prefill 1950.00, decode 48.75)\n"
      "blocks      19.5 of 32 rows in a sweep, 90 % of the cache held at the peak\n"
      "gpu         peak 1.46 KiB of 2.93 KiB, placed 180 B (asked for 180 B)\n"
      "dram        peak 14 B of 26.37 KiB, placed 12 B (asked for 12 B)\n"
      "rank 0      cpu on box0, layers 0 .. 23, busiest host_to_gpu (90 %), compute 85 %, idle in the pipeline 15 %\n"
      "rank 1      cpu on box1, layers 24 .. 47, busiest host_to_gpu (90 %), compute 85 %, idle in the pipeline 15 "
      "%\n");
}

}  // namespace
}  // namespace flexgen::test

// What it costs the engine's thread to hand a finished row to the output: with and without a journal, by order, packing
// and --sync. In the folder that FLEXGEN_BENCH_FOLDER names, else the one for temporary files: fsync is the disk's.
#include <benchmark/benchmark.h>
#include <stdlib.h>

#include <cstdlib>
#include <filesystem>
#include <string>

#include "job/output/result_writer.hpp"

namespace flexgen {
namespace {

constexpr std::size_t rows_at_once = 32;  // that end in one sweep
constexpr std::size_t line_bytes = 150;   // of a row with one token

std::string make_folder() {
  const char* wanted = std::getenv("FLEXGEN_BENCH_FOLDER");
  const std::filesystem::path parent = wanted ? wanted : std::filesystem::temp_directory_path();
  std::string name = (parent / "flexgen-bench-XXXXXX").string();
  return ::mkdtemp(name.data()) ? name : std::string();
}

void write_rows(benchmark::State& state, OutputRequest request, bool has_journal) {
  const std::string folder = make_folder();
  request.path = folder + "/" + request.path;
  request.flush = FlushRule::when_told;
  if (has_journal) request.identity = JobIdentity{{"the input", "rows"}};
  const std::string line = "{\"text\":\"" + std::string(line_bytes - 11, 'x') + "\"}";
  {
    ResultWriter writer(request);
    writer.start();
    RowIdentity row;
    for (auto _ : state) {
      ++row.line_number;
      writer.admit(row);
      writer.write(row, line);
      if (row.line_number % rows_at_once == 0) writer.flush();
    }
    writer.finish();
  }
  std::filesystem::remove_all(folder);
}

void add(const char* name, OutputRequest request, bool has_journal) {
  benchmark::RegisterBenchmark(name, [=](benchmark::State& state) { write_rows(state, request, has_journal); })
      ->Unit(benchmark::kMicrosecond)
      ->UseRealTime();
}

}  // namespace
}  // namespace flexgen

int main(int argc, char** argv) {
  using namespace flexgen;
  OutputRequest plain{.path = "out.jsonl", .sync = SyncRule::end}, seconds{.path = "out.jsonl"},
      packed{.path = "out.jsonl.zst"};
  OutputRequest rows{.path = "out.jsonl", .sync = SyncRule::rows}, gzip{.path = "out.jsonl.gz"};
  add("plain/no_journal", plain, false);
  add("plain/journal/sync_end", plain, true);
  add("plain/journal/sync_seconds", seconds, true);
  add("plain/journal/sync_rows", rows, true);
  add("zst/journal/sync_seconds", packed, true);
  add("gz/journal/sync_seconds", gzip, true);
  benchmark::Initialize(&argc, argv);
  benchmark::RunSpecifiedBenchmarks();
}

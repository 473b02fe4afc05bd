#include "app/output_paths.hpp"

#include <fmt/core.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <filesystem>
#include <utility>
#include <vector>

#include "base/error.hpp"
#include "job/figure_file.hpp"
#include "job/file_descriptor.hpp"
#include "run/model/model_directory.hpp"
#include "storage/scratch_file.hpp"

namespace flexgen {
namespace {

namespace fs = std::filesystem;

/// A file as the options name it, and what tells it from others.
struct NamedFile {
  std::string option;
  std::string path;         // "-": standard input or output
  fs::path place = {};      // absolute, without links; of a file that need not exist
  bool is_regular = false;  // and exists:
  struct stat status = {};  // hard links share a number
  bool is_special = false;  // a device or a pipe, which may be named as often as one likes
};

fs::path place_of(const std::string& path) {
  std::error_code ignored;
  const fs::path whole = fs::absolute(end_of_links(path), ignored);
  fs::path place = fs::weakly_canonical(whole, ignored);
  if (place.empty()) place = whole.lexically_normal();
  return place.has_filename() ? place : place.parent_path();  // "folder/"
}

NamedFile name_file(std::string option, const std::string& path, int standard_descriptor) {
  NamedFile file{std::move(option), path};
  const bool is_standard = path == "-";
  if (!is_standard) file.place = place_of(path);
  const bool exists =
      (is_standard ? ::fstat(standard_descriptor, &file.status) : ::stat(path.c_str(), &file.status)) == 0;
  file.is_regular = exists && S_ISREG(file.status.st_mode);
  file.is_special = exists && !file.is_regular && !S_ISDIR(file.status.st_mode);
  return file;
}

using Named = std::vector<std::pair<const char*, const std::string*>>;

std::vector<NamedFile> name_files(const Named& named, int standard_descriptor) {
  std::vector<NamedFile> files;
  for (const auto& [option, path] : named)
    if (!path->empty()) files.push_back(name_file(option, *path, standard_descriptor));
  return files;
}

std::vector<NamedFile> written_files(const Options& o) {
  const std::string journal = o.files.output.empty() || o.files.output == "-" ? "" : journal_path(o.files.output);
  return name_files({{"--output", &o.files.output},
                     {"--error-file", &o.files.error_file},
                     {"the journal of --output", &journal},
                     {"--report", &o.files.report},
                     {"--report", &o.files.page},
                     {"--trace", &o.files.trace}},
                    STDOUT_FILENO);
}

// Other files may lie in a model's folder, too: earlier results, for example.
constexpr std::array<const char*, 8> model_files{"config.json",       "generation_config.json", "vocab.json",
                                                 "merges.txt",        "tokenizer.json",         "tokenizer_config.json",
                                                 "added_tokens.json", "special_tokens_map.json"};

bool holds_weights(const fs::path& file) {
  return file.extension() == ".safetensors" || file.extension() == ".bin" ||
         file.filename().string().ends_with(".index.json");
}

std::vector<NamedFile> read_files(const Options& o) {
  std::vector<NamedFile> files = name_files({{"--text", &o.score.text},
                                             {"--quality-check", &o.rows.quality_check},
                                             {"--profile", &o.machine.profile},
                                             {"--config", &o.config}},
                                            STDIN_FILENO);
  for (const std::string& path : o.rows.inputs.paths) files.push_back(name_file("--input", path, STDIN_FILENO));
  if (o.model.name.empty()) return files;
  fs::path folder;
  try {
    folder = find_model(o.model, o.model.dummy);
  } catch (const UserError&) {
    return files;  // the command says it
  }
  std::vector<fs::path> own{model_files.begin(), model_files.end()};
  std::error_code ignored;
  for (const auto& entry : fs::directory_iterator(folder, ignored))
    if (holds_weights(entry.path())) own.push_back(entry.path().filename());
  for (const fs::path& name : own)
    files.push_back(name_file("a file of --model", (folder / name).string(), STDIN_FILENO));
  return files;
}

bool are_same(const NamedFile& a, const NamedFile& b) {
  if (a.is_special || b.is_special) return false;
  if (a.is_regular && b.is_regular && a.status.st_dev == b.status.st_dev && a.status.st_ino == b.status.st_ino)
    return true;
  return !a.place.empty() && a.place == b.place;
}

void refuse_same(const NamedFile& written, const NamedFile& other) {
  if (!are_same(written, other)) return;
  throw UserError(ExitCode::usage, fmt::format("{} and {} are the same file", other.option, written.option),
                  fmt::format("'{}' would be overwritten", other.path),
                  fmt::format("Name another file with {}", written.option));
}

void refuse_shared_output(const NamedFile& a, const NamedFile& b) {
  if (a.path == "-" && b.path == "-")
    throw UserError(ExitCode::usage, fmt::format("{} and {} both go to standard output", a.option, b.option),
                    "one would stand within the other", fmt::format("Name a file with {}", b.option));
  refuse_same(a, b);
}

bool lies_in(const fs::path& place, const fs::path& folder) {
  return std::mismatch(folder.begin(), folder.end(), place.begin(), place.end()).first == folder.end();
}

// A model that is being written is nobody's folder but its own.
void check_saved_model(const std::string& folder, const std::vector<NamedFile>& written) {
  if (folder.empty()) return;
  check_folder_of(folder, "--save-compressed");
  const fs::path place = place_of(folder);
  for (const NamedFile& file : written)
    if (!file.is_special && lies_in(file.place, place))
      throw UserError(ExitCode::usage, fmt::format("{} lies in the folder of --save-compressed", file.option),
                      "it would mix with the model's own files", "Name a file elsewhere");
}

}  // namespace

void check_output_paths(const Options& options) {
  const std::vector<NamedFile> written = written_files(options), read = read_files(options);
  for (std::size_t i = 0; i < written.size(); ++i) {
    for (const NamedFile& file : read) refuse_same(written[i], file);
    for (std::size_t j = i + 1; j < written.size(); ++j) refuse_shared_output(written[i], written[j]);
  }
  check_saved_model(options.model.save_compressed, written);
  if (options.machine.offload_dir != default_offload_directory())
    check_folder_of(options.machine.offload_dir, "--offload-dir");
  const FigureKind report = options.command == "doctor"   ? FigureKind::diagnosis
                            : options.command == "verify" ? FigureKind::verification
                            : options.command == "plan"   ? FigureKind::plan
                                                          : FigureKind::report;
  if (!options.files.report.empty()) check_figure_file(options.files.report, report, "--report");
  if (!options.files.page.empty()) check_figure_file(options.files.page, FigureKind::page, "--report");
  if (!options.files.trace.empty()) check_figure_file(options.files.trace, FigureKind::trace, "--trace");
}

}  // namespace flexgen

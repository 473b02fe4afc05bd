#include <fmt/core.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <fstream>

#include "base/bytes.hpp"
#include "base/error.hpp"
#include "job/output/journal_record.hpp"
#include "model/read_spec.hpp"
#include "run/doctor/own_facts.hpp"
#include "run/model/model_directory.hpp"
#include "weights/checkpoint/checkpoint.hpp"

namespace flexgen {
namespace {

namespace fs = std::filesystem;

constexpr std::uint64_t most_read_bytes = 96 * MiB;
constexpr std::uint64_t parts_per_file = 3;

bool is_setting(const fs::path& file) {
  const fs::path ending = file.extension();
  return ending == ".json" || ending == ".txt" || ending == ".model";
}

std::uint32_t add_part(std::ifstream& file, std::uint64_t offset_bytes, std::string& buffer, std::uint32_t sum) {
  file.seekg(static_cast<std::streamoff>(offset_bytes));
  file.read(buffer.data(), static_cast<std::streamsize>(buffer.size()));
  return checksum(buffer, sum);
}

/// The whole of a small file, else parts of it. Throws UserError (model).
FileFacts read_file(const fs::path& path, std::uint64_t part_bytes) {
  FileFacts facts{path.filename().string(), fs::file_size(path), 0};
  std::ifstream file(path, std::ios::binary);
  const bool is_whole = is_setting(path) || facts.bytes <= parts_per_file * part_bytes;
  std::string buffer(is_whole ? facts.bytes : part_bytes, '\0');
  std::uint32_t sum = 0;
  if (is_whole) {
    sum = add_part(file, 0, buffer, sum);
  } else {
    const std::uint64_t last = facts.bytes - part_bytes;
    for (const std::uint64_t offset : {std::uint64_t{0}, last / 2, last}) sum = add_part(file, offset, buffer, sum);
  }
  if (!file)
    throw UserError(ExitCode::model, fmt::format("cannot read '{}'", path.string()), errno_text(errno),
                    "Check the file and its permissions");
  facts.checksum = sum;
  return facts;
}

void read_files(const fs::path& folder, ModelFacts& facts) {
  std::vector<fs::path> files = Checkpoint::open(folder).files();
  const std::uint64_t room = most_read_bytes / (parts_per_file * std::max<std::size_t>(1, files.size()));
  facts.part_bytes = std::clamp<std::uint64_t>(align_down(room, 4 * KiB), 4 * KiB, 1 * MiB);
  for (const auto& entry : fs::directory_iterator(folder))
    if (is_setting(entry.path())) files.push_back(entry.path());
  for (const fs::path& file : files) facts.files.push_back(read_file(file, facts.part_bytes));
  std::ranges::sort(facts.files, {}, &FileFacts::name);
}

}  // namespace

ModelFacts look_at_model(const ModelChoice& choice) {
  ModelFacts facts;
  facts.folder.path = choice.name;
  try {
    const fs::path folder = find_model(choice, false);
    facts.folder.path = folder.string();
    std::ifstream mounts("/proc/self/mountinfo");
    find_file_system(folder, mounts, facts.folder);
    facts.fingerprint = fingerprint(read_model_spec(folder.string()));
    read_files(folder, facts);
  } catch (const Error& error) {
    facts.folder.problem = error.what();
    facts.folder.problem_code = static_cast<int>(error.code());
  } catch (const fs::filesystem_error& error) {
    facts.folder.problem = fmt::format("cannot read the model's folder: {}", error.what());
    facts.folder.problem_code = static_cast<int>(ExitCode::model);
  }
  return facts;
}

}  // namespace flexgen

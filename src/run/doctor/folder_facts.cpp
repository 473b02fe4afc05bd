#include <fcntl.h>
#include <fmt/core.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdlib>
#include <fstream>
#include <optional>
#include <sstream>

#include "base/bytes.hpp"
#include "base/error.hpp"
#include "job/file_descriptor.hpp"
#include "job/output/output_lock.hpp"
#include "probe/disk_probe.hpp"
#include "run/doctor/own_facts.hpp"
#include "spec/hardware_profile.hpp"
#include "storage/host_memory.hpp"
#include "storage/io_queue.hpp"
#include "storage/scratch_file.hpp"

namespace flexgen {
namespace {

namespace fs = std::filesystem;

// The kernel writes spaces and backslashes of names as "\040".
std::string without_escapes(const std::string& text) {
  std::string plain;
  for (std::size_t i = 0; i < text.size(); ++i) {
    const bool is_escape = text[i] == '\\' && i + 3 < text.size() && text.find_first_not_of("01234567", i + 1) >= i + 4;
    plain += is_escape ? static_cast<char>(std::stoi(text.substr(i + 1, 3), nullptr, 8)) : text[i];
    if (is_escape) i += 3;
  }
  return plain;
}

bool lies_under(const fs::path& place, const fs::path& top) {
  return std::mismatch(top.begin(), top.end(), place.begin(), place.end()).first == top.end();
}

FolderFacts look_at_folder(const fs::path& folder) {
  FolderFacts facts;
  facts.path = folder.string();
  std::ifstream mounts("/proc/self/mountinfo");
  find_file_system(folder, mounts, facts);
  return facts;
}

void keep_problem(const Error& error, FolderFacts& facts) {
  facts.problem = error.what();
  facts.problem_code = static_cast<int>(error.code());
}

void measure_speed(const fs::path& folder, DiskFacts& facts) {
  constexpr std::uint64_t too_little_bytes = 256 * MiB;  // to write into for the sake of a figure
  if (facts.folder.free_bytes < too_little_bytes) return;
  const DiskProbeOptions options{
      .file_bytes = 64 * MiB, .seconds_per_point = 0.1, .seconds_sustained = 0.4, .quick = true};
  const DiskProfile disk = measure_disk(folder, options, [](std::string_view) {});
  facts.read_bytes_per_second = lasting_read_rate(disk);
  facts.write_bytes_per_second = lasting_write_rate(disk);
  facts.direct = disk.direct;
}

// A file of the doctor's own, gone at the end.
class NamedFile {
 public:
  explicit NamedFile(const fs::path& folder)
      : path_((folder / ".flexgen-doctor-XXXXXX").string()),
        first_(FileDescriptor::owned(::mkostemp(path_.data(), O_CLOEXEC))) {
    if (!first_.is_open())
      throw UserError(ExitCode::file, fmt::format("no file can be made in '{}'", folder.string()), errno_text(errno),
                      "Check --output");
  }
  ~NamedFile() { ::unlink(path_.c_str()); }
  NamedFile(const NamedFile&) = delete;
  NamedFile& operator=(const NamedFile&) = delete;

  // How one opening of the file keeps another one out; empty: it does not.
  std::string find_lock() const {
    std::string why;
    const std::optional<OutputLock> lock = OutputLock::take(first_.get(), path_, why);
    if (!lock) return "";
    const auto second = FileDescriptor::owned(::open(path_.c_str(), O_WRONLY | O_CLOEXEC));
    if (OutputLock::take(second.get(), path_, why)) return "";
    return lock->is_file() ? "file" : "flock";
  }

 private:
  std::string path_;
  FileDescriptor first_;
};

}  // namespace

// A line: "36 35 98:0 /root /mnt/point rw,noatime shared:1 - ext3 /dev/root rw".
void find_file_system(const fs::path& folder, std::istream& mounts, FolderFacts& facts) {
  std::error_code ignored;
  const fs::path place = fs::weakly_canonical(fs::absolute(folder, ignored), ignored);
  std::size_t deepest = 0;
  for (std::string line; std::getline(mounts, line);) {
    const std::size_t dash = line.find(" - ");
    if (dash == std::string::npos) continue;
    std::istringstream before(line), after(line.substr(dash + 3));
    std::string word, point, kind, source;
    before >> word >> word >> word >> word >> point;
    after >> kind >> source;
    const fs::path top = without_escapes(point);
    const auto depth = static_cast<std::size_t>(std::distance(top.begin(), top.end()));
    if (depth < deepest || !lies_under(place, top)) continue;  // of equals the last one covers the others
    deepest = depth;
    facts.kind = kind;
    facts.source = without_escapes(source);
  }
}

DiskFacts look_at_disk(const fs::path& folder, DiskSpeed speed) {
  DiskFacts facts;
  facts.folder = look_at_folder(folder);
  try {
    facts.folder.free_bytes = free_disk_bytes(folder);
    const ScratchFile file(folder, 1 * MiB);
    facts.direct = file.handle().direct();
    IoQueue::make_uring(1, facts.uring_refusal);
    if (speed == DiskSpeed::measured) measure_speed(folder, facts);
  } catch (const Error& error) {
    keep_problem(error, facts.folder);
  }
  return facts;
}

OutputFacts look_at_output(const fs::path& output) {
  const fs::path parent = fs::path(end_of_links(output.string())).parent_path();
  const fs::path folder = parent.empty() ? fs::path(".") : parent;
  OutputFacts facts;
  facts.folder = look_at_folder(folder);
  try {
    check_folder_of(output, "--output");
    facts.folder.free_bytes = free_disk_bytes(folder);
    facts.lock = NamedFile(folder).find_lock();
  } catch (const Error& error) {
    keep_problem(error, facts.folder);
  }
  return facts;
}

}  // namespace flexgen

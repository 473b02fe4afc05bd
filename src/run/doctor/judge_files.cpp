#include <fmt/core.h>

#include <algorithm>
#include <array>
#include <string_view>

#include "base/bytes.hpp"
#include "run/doctor/judge.hpp"

namespace flexgen {
namespace {

bool is_memory(const std::string& kind) { return kind == "tmpfs" || kind == "ramfs"; }

std::string where(const FolderFacts& folder) {
  return fmt::format("'{}' lies on {} ({})", folder.path, folder.kind, folder.source);
}

bool take_problem(int rank, const FolderFacts& folder, std::vector<Finding>& findings) {
  if (folder.problem.empty()) return false;
  findings.push_back(fault(static_cast<ExitCode>(folder.problem_code), {rank}, folder.problem, "", ""));
  return true;
}

void judge_offload_kind(int rank, const FolderFacts& folder, std::vector<Finding>& findings) {
  if (is_network_file_system(folder.kind))
    findings.push_back(warning({rank}, where(folder),
                               "what the ssd tier holds would travel over the network in every sweep",
                               "Name a folder on a disk of the machine's own with --offload-dir"));
  else if (is_memory(folder.kind))
    findings.push_back(warning({rank}, where(folder),
                               "that is memory: what the ssd tier holds would be taken from dram",
                               "Name a folder on a disk with --offload-dir"));
  else if (folder.kind == "overlay")
    findings.push_back(note({rank}, where(folder),
                            "that is the container's own layer, which lies on a disk of its host",
                            "Mount a folder of a fast disk (docker -v), and name it with --offload-dir"));
}

void judge_offload_speed(int rank, const DiskFacts& disk, std::vector<Finding>& findings) {
  constexpr double slow_bytes_per_second = 200e6;  // what a disk without moving parts passes easily
  const double least = std::min(disk.read_bytes_per_second, disk.write_bytes_per_second);
  if (least > 0 && least < slow_bytes_per_second)
    findings.push_back(
        warning({rank},
                fmt::format("the disk of '{}' reads {:.0f} and writes {:.0f} MB/s", disk.folder.path,
                            disk.read_bytes_per_second * 1e-6, disk.write_bytes_per_second * 1e-6),
                "what the ssd tier holds is read once in every sweep",
                "Keep more in dram (--percent, --compress-weight), or name a faster disk with --offload-dir"));
  if (!disk.direct && !is_memory(disk.folder.kind))
    findings.push_back(note({rank}, fmt::format("'{}' takes no direct I/O", disk.folder.path),
                            "transfers go through the page cache, which takes memory from the dram tier"));
  if (!disk.uring_refusal.empty())
    findings.push_back(note({rank}, "io_uring cannot be used", disk.uring_refusal,
                            "Threads read and write instead, slower on fast disks; Docker allows it with "
                            "--security-opt seccomp=unconfined"));
}

// The first file that tells two ranks' models apart; empty: none does.
std::string difference(const ModelFacts& model, const ModelFacts& other) {
  const auto find = [](const ModelFacts& in, const std::string& name) {
    return std::ranges::find(in.files, name, &FileFacts::name);
  };
  for (const FileFacts& file : other.files)
    if (find(model, file.name) == model.files.end()) return fmt::format("'{}' is missing", file.name);
  for (const FileFacts& file : model.files)
    if (find(other, file.name) == other.files.end()) return fmt::format("'{}' is one file more", file.name);
  for (const FileFacts& file : model.files) {
    const auto same = find(other, file.name);
    if (file.bytes != same->bytes)
      return fmt::format("'{}' has {} bytes instead of {}", file.name, file.bytes, same->bytes);
    if (file.checksum != same->checksum) return fmt::format("'{}' has another content", file.name);
  }
  return model.fingerprint == other.fingerprint ? "" : "config.json describes another model";
}

}  // namespace

bool is_network_file_system(const std::string& kind) {
  constexpr std::array<std::string_view, 17> kinds{"nfs",   "nfs4",   "cifs", "smb3",      "smbfs",   "lustre",
                                                   "gpfs",  "beegfs", "ceph", "glusterfs", "afs",     "9p",
                                                   "pvfs2", "ocfs2",  "gfs2", "panfs",     "orangefs"};
  constexpr std::array<std::string_view, 8> of_fuse{"sshfs",   "glusterfs", "ceph",    "s3fs",
                                                    "gcsfuse", "rclone",    "juicefs", "blobfuse"};
  if (std::ranges::find(kinds, kind) != kinds.end()) return true;
  return kind.starts_with("fuse.") &&
         std::ranges::any_of(of_fuse, [&](std::string_view one) { return kind.find(one) != std::string::npos; });
}

std::vector<Finding> judge_disk(AllRanks ranks) {
  constexpr std::uint64_t little_bytes = 1 * GiB;
  std::vector<Finding> findings;
  for (std::size_t r = 0; r < ranks.size(); ++r) {
    const int rank = static_cast<int>(r);
    const DiskFacts& disk = ranks[r].disk;
    if (take_problem(rank, disk.folder, findings)) continue;
    judge_offload_kind(rank, disk.folder, findings);
    judge_offload_speed(rank, disk, findings);
    if (disk.folder.free_bytes < little_bytes)
      findings.push_back(
          warning({rank}, fmt::format("{} are free in '{}'", format_bytes(disk.folder.free_bytes), disk.folder.path),
                  "the ssd tier holds no more than that", "Free some space, or name another --offload-dir"));
  }
  return join_equal(std::move(findings));
}

std::vector<Finding> judge_output(AllRanks ranks) {
  std::vector<Finding> findings;
  const OutputFacts& output = *ranks.front().output;
  if (take_problem(0, output.folder, findings)) return findings;
  constexpr std::uint64_t little_bytes = 64 * MiB;
  if (output.folder.free_bytes < little_bytes)
    findings.push_back(
        warning({0}, fmt::format("{} are free in '{}'", format_bytes(output.folder.free_bytes), output.folder.path),
                "a full disk ends the job with exit code 6", "Free some space"));
  if (output.lock.empty())
    findings.push_back(warning({0}, fmt::format("nothing locks files in '{}'", output.folder.path),
                               "two jobs that are given the same output would spoil it",
                               "See to it that one job at a time writes there"));
  if (output.lock == "file")
    findings.push_back(note({0}, where(output.folder) + ", which knows no locks",
                            "a file OUTPUT.lock stands for one; after a crash on another host it holds for a minute"));
  if (is_memory(output.folder.kind))
    findings.push_back(warning({0}, where(output.folder), "that is memory: results are gone when the machine restarts",
                               "Name an --output on a disk"));
  return findings;
}

std::vector<Finding> judge_model(AllRanks ranks) {
  std::vector<Finding> findings;
  const ModelFacts& first = *ranks.front().model;
  for (std::size_t r = 0; r < ranks.size(); ++r) {
    const int rank = static_cast<int>(r);
    if (!ranks[r].model) {
      findings.push_back(fault(ExitCode::usage, {rank}, "has no --model", "others have", "Give it to every rank"));
      continue;
    }
    const ModelFacts& model = *ranks[r].model;
    if (take_problem(rank, model.folder, findings)) continue;
    if (is_network_file_system(model.folder.kind))
      findings.push_back(warning({rank}, "the model in " + where(model.folder),
                                 "weights are loaded over the network, those of the ssd tier in every sweep",
                                 "Copy it to a disk of each machine"));
    if (!first.folder.problem.empty() || r == 0) continue;
    if (const std::string what = difference(model, first); !what.empty())
      findings.push_back(
          fault(ExitCode::model, {rank},
                fmt::format("has another model in '{}' than {}", model.folder.path, name_ranks(ranks, {0})), what,
                "Copy the model's folder anew, from one place to all hosts"));
  }
  return join_equal(std::move(findings));
}

}  // namespace flexgen

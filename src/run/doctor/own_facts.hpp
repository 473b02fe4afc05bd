// What this rank sees of itself and of its machine.
//
// Free functions, one for each part of RankFacts. None throws for what it finds: what cannot be used is a fact, too.
// `root` is where /proc and /sys are found; tests have their own.
#pragma once

#include <filesystem>
#include <istream>
#include <string>

#include "comm/communicator.hpp"
#include "run/doctor/facts.hpp"
#include "run/job_request.hpp"

namespace flexgen {

ProgramFacts look_at_program();

/// @param launched  by an MPI launcher
LaunchFacts look_at_launch(const Communicator& ranks, bool launched);

MachineFacts look_at_machine(const std::filesystem::path& root = "/");

/// Takes the GPU that a job would take, for a moment.
GpuFacts look_at_gpu(const MachineRequest& request, const Communicator& ranks, const std::filesystem::path& root = "/");

/// Whether one rank of a machine measures for all.
enum class DiskSpeed : std::uint8_t { measured, left_out };

/// Writes scratch files, which have no names. To measure takes about two seconds.
DiskFacts look_at_disk(const std::filesystem::path& folder, DiskSpeed speed);

/// Makes a file beside `output` for a moment, and locks it.
OutputFacts look_at_output(const std::filesystem::path& output);

/// Reads headers, configuration and tokenizer, and parts of each file of weights: some 100 MiB at most.
ModelFacts look_at_model(const ModelChoice& choice);

/// @param ask_for_own_name  what addresses the host's name stands for: asked of the system, which may take its time
NetworkFacts look_at_network(bool ask_for_own_name, const std::filesystem::path& root = "/");

/// Where a folder, or its nearest parent that exists, lies. @param mounts as /proc/self/mountinfo (proc(5))
void find_file_system(const std::filesystem::path& folder, std::istream& mounts, FolderFacts& facts);

}  // namespace flexgen

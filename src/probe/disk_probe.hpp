// Measures direct reads and writes of one directory's disk, over block size and queue depth, by the engine's own I/O
// queue.
//
// The file has no name and is gone at the end. Its contents are random, so that a disk that compresses is not
// flattered. Thread-safety: none; nothing else should use the disk meanwhile.
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <string_view>

#include "spec/hardware_profile.hpp"

namespace flexgen {

struct DiskProbeOptions {
  std::uint64_t file_bytes = 8ULL << 30;  // less where the disk has less room; what lies before it may hold 2 GiB
  double seconds_per_point = 0.6;         // limit for one (block size, depth)
  double seconds_sustained = 6;           // limit for the pass over the file at the best point
  bool quick = false;                     // few points
};

/// `progress` is told what comes next. Throws UserError: does_not_fit when not even 16 MiB are free; file as
/// ScratchFile.
DiskProfile measure_disk(const std::filesystem::path& directory, const DiskProbeOptions& options,
                         const std::function<void(std::string_view)>& progress);

}  // namespace flexgen

// What a machine can do at best, as `flexgen-dist profile` measured it: the ceilings that every later figure is
// judged by. Plain immutable data; one per machine, kept as one JSON file.
//
// Rates are the best of several repetitions, in bytes (or operations) per second. A rate of 0 and an empty list mean
// "not measured", never "nothing".
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/fields.hpp"
#include "spec/dtype.hpp"
#include "spec/op_rates.hpp"

namespace flexgen {

/// Moving data in pieces of one size.
struct CopyRate {
  std::uint64_t chunk_bytes = 0;
  double bytes_per_second = 0;
  static constexpr auto fields() {
    return std::tuple(field("chunk_bytes", &CopyRate::chunk_bytes),
                      field("bytes_per_second", &CopyRate::bytes_per_second));
  }
  bool operator==(const CopyRate&) const = default;
};

/// Host memory traffic of a number of threads.
struct ThreadRate {
  int num_threads = 0;
  double bytes_per_second = 0;
  static constexpr auto fields() {
    return std::tuple(field("num_threads", &ThreadRate::num_threads),
                      field("bytes_per_second", &ThreadRate::bytes_per_second));
  }
  bool operator==(const ThreadRate&) const = default;
};

/// The engine's matrix product: [rows, size] x [size, size].
struct MatrixRate {
  DType dtype = DType::float32;
  std::int64_t rows = 0;
  std::int64_t size = 0;
  double operations_per_second = 0;  // a multiply-add counts as two
  static constexpr auto fields() {
    return std::tuple(field("dtype", &MatrixRate::dtype), field("rows", &MatrixRate::rows),
                      field("size", &MatrixRate::size),
                      field("operations_per_second", &MatrixRate::operations_per_second));
  }
  bool operator==(const MatrixRate&) const = default;
};

struct DiskRate {
  std::uint64_t block_bytes = 0;
  int queue_depth = 0;
  double bytes_per_second = 0;
  static constexpr auto fields() {
    return std::tuple(field("block_bytes", &DiskRate::block_bytes), field("queue_depth", &DiskRate::queue_depth),
                      field("bytes_per_second", &DiskRate::bytes_per_second));
  }
  bool operator==(const DiskRate&) const = default;
};

/// Copies to the GPU while threads read host memory: both draw on the same memory.
struct SharedMemoryRate {
  int num_threads = 0;
  double read_bytes_per_second = 0;
  double host_to_gpu_bytes_per_second = 0;
  static constexpr auto fields() {
    return std::tuple(field("num_threads", &SharedMemoryRate::num_threads),
                      field("read_bytes_per_second", &SharedMemoryRate::read_bytes_per_second),
                      field("host_to_gpu_bytes_per_second", &SharedMemoryRate::host_to_gpu_bytes_per_second));
  }
  bool operator==(const SharedMemoryRate&) const = default;
};

struct HostProfile {
  int num_processors = 0;
  std::vector<ThreadRate> read;  // bytes read
  std::vector<ThreadRate> copy;  // bytes read and bytes written, summed
  std::vector<MatrixRate> matrix;
  std::optional<OpRates> ops;  // of a profile that is old enough there are none
  static constexpr auto fields() {
    return std::tuple(field("num_processors", &HostProfile::num_processors), field("read", &HostProfile::read),
                      field("copy", &HostProfile::copy), field("matrix", &HostProfile::matrix),
                      field("ops", &HostProfile::ops));
  }
  bool operator==(const HostProfile&) const = default;
};

struct GpuProfile {
  std::string name;
  std::vector<CopyRate> host_to_gpu;      // pinned
  std::vector<CopyRate> gpu_to_host;      // pinned
  std::vector<CopyRate> both_directions;  // pinned, at once; the sum of the two
  double pageable_host_to_gpu_bytes_per_second = 0;
  double memory_bytes_per_second = 0;  // a copy within the GPU: bytes read and bytes written, summed
  std::vector<MatrixRate> matrix;
  std::vector<SharedMemoryRate> beside_host_reads;
  std::optional<OpRates> ops;
  static constexpr auto fields() {
    return std::tuple(
        field("name", &GpuProfile::name), field("host_to_gpu", &GpuProfile::host_to_gpu),
        field("gpu_to_host", &GpuProfile::gpu_to_host), field("both_directions", &GpuProfile::both_directions),
        field("pageable_host_to_gpu_bytes_per_second", &GpuProfile::pageable_host_to_gpu_bytes_per_second),
        field("memory_bytes_per_second", &GpuProfile::memory_bytes_per_second), field("matrix", &GpuProfile::matrix),
        field("beside_host_reads", &GpuProfile::beside_host_reads), field("ops", &GpuProfile::ops));
  }
  bool operator==(const GpuProfile&) const = default;
};

struct DiskProfile {
  std::string directory;
  std::string method;            // "io_uring" or "pread"
  bool direct = false;           // page cache bypassed
  std::uint64_t file_bytes = 0;  // size of the file that was written and read
  std::string note;              // what may still flatter the figures
  std::vector<DiskRate> read;    // each a burst of well under a second
  std::vector<DiskRate> write;
  // At the best of those points, over the whole file or several seconds: what a job that streams can count on.
  std::optional<DiskRate> sustained_read;
  std::optional<DiskRate> sustained_write;
  static constexpr auto fields() {
    return std::tuple(field("directory", &DiskProfile::directory), field("method", &DiskProfile::method),
                      field("direct", &DiskProfile::direct), field("file_bytes", &DiskProfile::file_bytes),
                      field("note", &DiskProfile::note), field("read", &DiskProfile::read),
                      field("write", &DiskProfile::write), field("sustained_read", &DiskProfile::sustained_read),
                      field("sustained_write", &DiskProfile::sustained_write));
  }
  bool operator==(const DiskProfile&) const = default;
};

/// From one rank to the next.
struct LinkProfile {
  std::string transport;  // "mpi", "nccl"
  int from = 0;
  int to = 0;
  bool same_machine = true;
  double latency_seconds = 0;  // of a small message, half a round trip
  std::vector<CopyRate> rates;
  static constexpr auto fields() {
    return std::tuple(field("transport", &LinkProfile::transport), field("from", &LinkProfile::from),
                      field("to", &LinkProfile::to), field("same_machine", &LinkProfile::same_machine),
                      field("latency_seconds", &LinkProfile::latency_seconds), field("rates", &LinkProfile::rates));
  }
  bool operator==(const LinkProfile&) const = default;
};

/// What one rank of such a machine may fill, for plans that are made elsewhere.
struct CapacityProfile {
  std::uint64_t gpu_bytes = 0;
  std::uint64_t dram_bytes = 0;
  std::uint64_t disk_bytes = 0;
  static constexpr auto fields() {
    return std::tuple(field("gpu_bytes", &CapacityProfile::gpu_bytes),
                      field("dram_bytes", &CapacityProfile::dram_bytes),
                      field("disk_bytes", &CapacityProfile::disk_bytes));
  }
  bool operator==(const CapacityProfile&) const = default;
};

/// A ceiling that jobs found wrong: all figures behind it have been multiplied.
struct CorrectedCeiling {
  std::string ceiling;  // "matrix", "host_to_gpu", ...
  double factor = 1;    // to be divided by where the figures as measured are wanted again
  std::string reason;   // the last job that did it, and what it had seen
  static constexpr auto fields() {
    return std::tuple(field("ceiling", &CorrectedCeiling::ceiling), field("factor", &CorrectedCeiling::factor),
                      field("reason", &CorrectedCeiling::reason));
  }
  bool operator==(const CorrectedCeiling&) const = default;
};

struct HardwareProfile {
  int schema_version = 1;
  std::string program;  // version of flexgen-dist
  std::string host;
  std::string measured_at;  // UTC, ISO 8601
  bool quick = false;       // shortened: good for a look, not for figures to be published
  HostProfile memory;
  std::optional<GpuProfile> gpu;
  std::optional<DiskProfile> disk;
  std::vector<LinkProfile> links;
  std::optional<CapacityProfile> capacity;
  /// Of figures that were not measured by this program: where each is from.
  std::optional<std::vector<std::string>> sources;
  std::optional<std::vector<CorrectedCeiling>> corrected;  // by ceiling
  static constexpr auto fields() {
    return std::tuple(field("schema_version", &HardwareProfile::schema_version),
                      field("program", &HardwareProfile::program), field("host", &HardwareProfile::host),
                      field("measured_at", &HardwareProfile::measured_at), field("quick", &HardwareProfile::quick),
                      field("memory", &HardwareProfile::memory), field("gpu", &HardwareProfile::gpu),
                      field("disk", &HardwareProfile::disk), field("links", &HardwareProfile::links),
                      field("capacity", &HardwareProfile::capacity), field("sources", &HardwareProfile::sources),
                      field("corrected", &HardwareProfile::corrected));
  }
  bool operator==(const HardwareProfile&) const = default;
};

/// The best rate over chunk sizes, thread counts or shapes; 0 when nothing was measured.
double best_rate(const std::vector<CopyRate>& rates);
double best_rate(const std::vector<ThreadRate>& rates);
double best_rate(const std::vector<DiskRate>& rates);
double best_rate(const std::vector<MatrixRate>& rates, DType dtype);

/// What a disk keeps up; of a profile that has no such figure, its best burst. Bytes per second.
double lasting_read_rate(const DiskProfile& disk);
double lasting_write_rate(const DiskProfile& disk);
/// The best over the links of one transport, between machines where there is such a link; 0 without any.
double link_rate(const std::vector<LinkProfile>& links, std::string_view transport);

/// Indented JSON text with a newline at the end, and back. `where` names the source in messages.
/// parse throws UserError (file): no JSON, another schema version, a missing or impossible value.
std::string to_json(const HardwareProfile& profile);
HardwareProfile parse_hardware_profile(std::string_view text, const std::string& where);

}  // namespace flexgen

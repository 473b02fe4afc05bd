// What a rank tells about itself and its machine, for the doctor to compare: plain data, with no judgement in it.
//
// Sizes in bytes. An optional limit that is missing means that there is none. Ranks send each other these structs in
// their JSON form (comm/exchange.hpp).
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "base/fields.hpp"

namespace flexgen {

/// The program, as it was built and as it finds itself here.
struct ProgramFacts {
  std::string version;      // version_text()
  std::string compiler;     // "GCC 12.2.0"
  bool optimised = true;    // built by a compiler that was told to optimise, without sanitizers
  std::string built_glibc;  // "2.36"; empty: another C library
  std::string glibc;        // the one that runs
  std::string mpi;          // "Open MPI v4.1.4"
  std::string processor;    // "AMD EPYC 9R14"
  std::string kernels;      // the instruction set that the host's kernels use here: "avx512"
  std::string system;       // "Linux 6.1.0"
  static constexpr auto fields() {
    return std::tuple(field("version", &ProgramFacts::version), field("compiler", &ProgramFacts::compiler),
                      field("optimised", &ProgramFacts::optimised), field("built_glibc", &ProgramFacts::built_glibc),
                      field("glibc", &ProgramFacts::glibc), field("mpi", &ProgramFacts::mpi),
                      field("processor", &ProgramFacts::processor), field("kernels", &ProgramFacts::kernels),
                      field("system", &ProgramFacts::system));
  }
};

/// Where a rank runs, and how it was started.
struct LaunchFacts {
  std::string host;
  std::string boot;  // tells machines apart whatever their names: alike in all containers of one
  int node = 0;      // lowest rank with which it shares memory, as MPI sees it
  int local_rank = 0, local_size = 1;
  int batch_tasks = 0;  // tasks that Slurm allocated to a program that was started alone; 0: no such thing
  static constexpr auto fields() {
    return std::tuple(field("host", &LaunchFacts::host), field("boot", &LaunchFacts::boot),
                      field("node", &LaunchFacts::node), field("local_rank", &LaunchFacts::local_rank),
                      field("local_size", &LaunchFacts::local_size), field("batch_tasks", &LaunchFacts::batch_tasks));
  }
};

struct MachineFacts {
  int processors = 1;            // of the machine
  int processors_allowed = 1;    // that this rank may run on (affinity)
  int processors_available = 1;  // of these, as many as control groups leave time for
  std::uint64_t memory_bytes = 0, available_bytes = 0;
  std::optional<std::uint64_t> group_memory_bytes;         // the tightest limit of a control group
  std::optional<std::uint64_t> locked_bytes, open_files;   // RLIMIT_MEMLOCK, RLIMIT_NOFILE
  std::optional<std::uint64_t> address_bytes, file_bytes;  // RLIMIT_AS, RLIMIT_FSIZE
  std::string huge_pages;                                  // "always", "madvise", "never"; empty: unknown
  std::optional<std::string> loop_threads;                 // OMP_NUM_THREADS
  static constexpr auto fields() {
    return std::tuple(
        field("processors", &MachineFacts::processors), field("processors_allowed", &MachineFacts::processors_allowed),
        field("processors_available", &MachineFacts::processors_available),
        field("memory_bytes", &MachineFacts::memory_bytes), field("available_bytes", &MachineFacts::available_bytes),
        field("group_memory_bytes", &MachineFacts::group_memory_bytes),
        field("locked_bytes", &MachineFacts::locked_bytes), field("open_files", &MachineFacts::open_files),
        field("address_bytes", &MachineFacts::address_bytes), field("file_bytes", &MachineFacts::file_bytes),
        field("huge_pages", &MachineFacts::huge_pages), field("loop_threads", &MachineFacts::loop_threads));
  }
};

/// The GPU that a rank computes on.
struct OwnGpu {
  std::string name;    // "NVIDIA H200 (sm_90)"
  std::string bus;     // PCI id, "0000:3b:00.0"
  int capability = 0;  // 10 * major + minor
  std::uint64_t free_bytes = 0, total_bytes = 0;
  static constexpr auto fields() {
    return std::tuple(field("name", &OwnGpu::name), field("bus", &OwnGpu::bus),
                      field("capability", &OwnGpu::capability), field("free_bytes", &OwnGpu::free_bytes),
                      field("total_bytes", &OwnGpu::total_bytes));
  }
};

struct GpuFacts {
  bool compiled = false;                // this build has CUDA
  std::string compiled_for;             // capabilities, "75;80;90"
  std::string runtime;                  // CUDA's, that it is linked with: "13.0"
  std::string driver;                   // of the kernel: "550.54.15"; empty: there is none
  std::vector<std::string> on_machine;  // what the driver lists: "0000:3b:00.0 NVIDIA H200"
  int num_visible = 0;                  // that the program can use
  std::string problem;                  // why that is none, or why the own one cannot be used
  std::optional<OwnGpu> own;
  static constexpr auto fields() {
    return std::tuple(field("compiled", &GpuFacts::compiled), field("compiled_for", &GpuFacts::compiled_for),
                      field("runtime", &GpuFacts::runtime), field("driver", &GpuFacts::driver),
                      field("on_machine", &GpuFacts::on_machine), field("num_visible", &GpuFacts::num_visible),
                      field("problem", &GpuFacts::problem), field("own", &GpuFacts::own));
  }
};

/// A folder and the file system that it lies on.
struct FolderFacts {
  std::string path;
  std::string kind;    // of its file system: "ext4", "nfs4"; empty: unknown
  std::string source;  // "/dev/nvme0n1p1", "server:/export"
  std::uint64_t free_bytes = 0;
  std::string problem = {};  // why it cannot be used; empty: it can
  int problem_code = 0;      // what a job would end with (base/error.hpp)
  static constexpr auto fields() {
    return std::tuple(field("path", &FolderFacts::path), field("kind", &FolderFacts::kind),
                      field("source", &FolderFacts::source), field("free_bytes", &FolderFacts::free_bytes),
                      field("problem", &FolderFacts::problem), field("problem_code", &FolderFacts::problem_code));
  }
};

/// --offload-dir. One rank of each machine measures its speed.
struct DiskFacts {
  FolderFacts folder;
  bool direct = false;                                           // the page cache can be bypassed
  std::string uring_refusal;                                     // empty: io_uring works
  double read_bytes_per_second = 0, write_bytes_per_second = 0;  // 0: not measured by this rank
  static constexpr auto fields() {
    return std::tuple(field("folder", &DiskFacts::folder), field("direct", &DiskFacts::direct),
                      field("uring_refusal", &DiskFacts::uring_refusal),
                      field("read_bytes_per_second", &DiskFacts::read_bytes_per_second),
                      field("write_bytes_per_second", &DiskFacts::write_bytes_per_second));
  }
};

/// Where results are to go; rank 0 alone writes there.
struct OutputFacts {
  FolderFacts folder;
  std::string lock;  // "flock", "file"; empty: nothing keeps a second job out
  static constexpr auto fields() {
    return std::tuple(field("folder", &OutputFacts::folder), field("lock", &OutputFacts::lock));
  }
};

struct FileFacts {
  std::string name;
  std::uint64_t bytes = 0;
  std::uint64_t checksum = 0;  // of what was read of it
  static constexpr auto fields() {
    return std::tuple(field("name", &FileFacts::name), field("bytes", &FileFacts::bytes),
                      field("checksum", &FileFacts::checksum));
  }
};

/// The folder of --model, as this rank sees it.
struct ModelFacts {
  FolderFacts folder;
  std::string fingerprint;       // of its shape
  std::uint64_t part_bytes = 0;  // read at the beginning, the middle and the end of each file of weights
  std::vector<FileFacts> files;  // in order of name
  static constexpr auto fields() {
    return std::tuple(field("folder", &ModelFacts::folder), field("fingerprint", &ModelFacts::fingerprint),
                      field("part_bytes", &ModelFacts::part_bytes), field("files", &ModelFacts::files));
  }
};

struct InterfaceFacts {
  std::string name;     // "eth0"
  std::string address;  // IPv4, "10.0.0.1"
  int prefix_bits = 0;
  std::uint64_t megabits_per_second = 0;  // as the driver says; 0: it does not
  static constexpr auto fields() {
    return std::tuple(field("name", &InterfaceFacts::name), field("address", &InterfaceFacts::address),
                      field("prefix_bits", &InterfaceFacts::prefix_bits),
                      field("megabits_per_second", &InterfaceFacts::megabits_per_second));
  }
};

struct NetworkFacts {
  std::vector<InterfaceFacts> interfaces;   // that are up, without loopback
  std::vector<std::string> host_addresses;  // what the host's own name stands for, here
  static constexpr auto fields() {
    return std::tuple(field("interfaces", &NetworkFacts::interfaces),
                      field("host_addresses", &NetworkFacts::host_addresses));
  }
};

struct RankFacts {
  ProgramFacts program;
  LaunchFacts launch;
  MachineFacts machine;
  GpuFacts gpu;
  DiskFacts disk;
  std::optional<OutputFacts> output;
  std::optional<ModelFacts> model;
  NetworkFacts network;
  std::map<std::string, double> seconds;  // that each check took here
  static constexpr auto fields() {
    return std::tuple(field("program", &RankFacts::program), field("launch", &RankFacts::launch),
                      field("machine", &RankFacts::machine), field("gpu", &RankFacts::gpu),
                      field("disk", &RankFacts::disk), field("output", &RankFacts::output),
                      field("model", &RankFacts::model), field("network", &RankFacts::network),
                      field("seconds", &RankFacts::seconds));
  }
};

/// Between two ranks, by the transport of host memory.
struct LinkFacts {
  int from = 0, to = 0;
  bool same_machine = true;
  double latency_seconds = 0;  // half a round trip of a small message
  double bytes_per_second = 0;
  double bytes_per_second_back = 0;
  static constexpr auto fields() {
    return std::tuple(
        field("from", &LinkFacts::from), field("to", &LinkFacts::to), field("same_machine", &LinkFacts::same_machine),
        field("latency_seconds", &LinkFacts::latency_seconds), field("bytes_per_second", &LinkFacts::bytes_per_second),
        field("bytes_per_second_back", &LinkFacts::bytes_per_second_back));
  }
};

/// A rank's clock against rank 0's.
struct ClockFacts {
  int rank = 0;
  double offset_seconds = 0;       // positive: it is ahead
  double uncertainty_seconds = 0;  // half of the best round trip
  static constexpr auto fields() {
    return std::tuple(field("rank", &ClockFacts::rank), field("offset_seconds", &ClockFacts::offset_seconds),
                      field("uncertainty_seconds", &ClockFacts::uncertainty_seconds));
  }
};

}  // namespace flexgen

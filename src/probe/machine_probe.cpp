#include "probe/machine_probe.hpp"

#include <algorithm>
#include <span>
#include <vector>

#include "base/bytes.hpp"
#include "base/processors.hpp"
#include "device/buffer.hpp"
#include "probe/disk_probe.hpp"
#include "probe/gpu_probe.hpp"
#include "probe/host_traffic.hpp"
#include "probe/matrix_probe.hpp"
#include "probe/op_probe.hpp"
#include "storage/host_memory.hpp"

namespace flexgen {
namespace {

std::vector<int> thread_counts(int num_processors, bool quick) {
  std::vector<int> counts{1};
  for (int n = 2; n < num_processors && !quick; n *= 2) counts.push_back(n);
  if (num_processors > 1) counts.push_back(num_processors);
  return counts;
}

HostProfile measure_host(bool quick) {
  HostProfile host;
  host.num_processors = num_available_processors();
  // Several times what caches hold, within what the machine has.
  const std::uint64_t wanted = quick ? 256 * MiB : 2 * GiB;
  const Buffer memory(MemoryKind::pageable, align_down(std::min(wanted, available_host_bytes() / 4), MiB), Device{});
  const std::span<std::byte> bytes{memory.data(), memory.size_bytes()};
  fill_host_memory(bytes, host.num_processors);
  const double window_seconds = quick ? 0.05 : 0.2;
  for (const int n : thread_counts(host.num_processors, quick)) {
    host.read.push_back({n, measure_host_traffic(HostTrafficKind::read, bytes, n, window_seconds, 3)});
    host.copy.push_back({n, measure_host_traffic(HostTrafficKind::copy, bytes, n, window_seconds, 3)});
  }
  return host;
}

}  // namespace

HardwareProfile measure_machine(const Device& device, const std::filesystem::path& directory, bool quick,
                                const std::function<void(std::string_view)>& progress) {
  HardwareProfile profile;
  progress("host memory");
  profile.memory = measure_host(quick);
  profile.memory.matrix = measure_matrix(Device{}, quick, progress);
  profile.memory.ops = measure_ops(Device{}, quick, progress);
  if (device.is_cuda()) {
    GpuProbe probe(device, quick);
    profile.gpu = probe.measure(progress);
    profile.gpu->matrix = measure_matrix(device, quick, progress);
  }
  DiskProbeOptions disk;
  disk.quick = quick;
  if (quick) {
    disk.file_bytes = 256 * MiB;
    disk.seconds_per_point = 0.15;
    disk.seconds_sustained = 1.5;
  }
  profile.disk = measure_disk(directory, disk, progress);
  return profile;
}

}  // namespace flexgen

#include "run/machine.hpp"

#include <fmt/core.h>

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <fstream>
#include <iterator>
#include <vector>

#include "base/bytes.hpp"
#include "base/error.hpp"
#include "base/log.hpp"
#include "base/processors.hpp"
#include "comm/exchange.hpp"
#include "ops/host/host_kernels.hpp"
#include "ops/threads.hpp"
#include "storage/host_memory.hpp"

namespace flexgen {

std::string why_gpu_is_unused(const std::filesystem::path& root) {
  std::error_code ignored;
  if (!std::filesystem::exists(root / "proc/driver/nvidia/version", ignored)) return "";
  return cuda_compiled() ? "none is visible to this program, or the driver is older than its CUDA"
                         : "this build has no CUDA";
}

Device choose_device(const MachineRequest& request, const Communicator& ranks) {
  if (request.device == "cpu") return {};
  const int visible = num_cuda_devices();
  if (visible == 0) {
    if (request.device == "auto") {
      const std::string why = why_gpu_is_unused();
      if (!why.empty() && ranks.local_rank() == 0)
        log::warn(
            fmt::format("the GPUs of {} are not used: {}. flexgen-dist doctor says more; --device cpu says that it "
                        "is meant so",
                        ranks.host(), why));
      return {};
    }
    throw UserError(ExitCode::usage, "--device cuda cannot be honoured",
                    cuda_compiled() ? "no usable GPU or driver is visible" : "this build has no CUDA",
                    "Use --device cpu");
  }
  // One visible GPU: the launcher has bound it to this rank (CUDA_VISIBLE_DEVICES).
  return {DeviceKind::cuda, visible == 1 ? 0 : ranks.local_rank() % visible};
}

Device agree_on_device(const MachineRequest& request, Communicator& ranks) {
  Device device;
  ranks.agree_on_error([&] { device = choose_device(request, ranks); });
  ranks.all_equal("the kind of device (give --device cpu or cuda)", device.is_cuda() ? "cuda" : "cpu");
  return device;
}

Budgets choose_budgets(const MachineRequest& request, const Device& device, const Communicator& ranks) {
  const auto local = static_cast<std::uint64_t>(ranks.local_size());
  const std::uint64_t host = available_host_bytes() / local;
  Budgets budgets;
  if (device.is_cuda()) {
    // Ranks that share a GPU share its memory; as a rule there is one each.
    const auto sharing =
        std::max<std::uint64_t>(1, local / static_cast<std::uint64_t>(std::max(1, num_cuda_devices())));
    budgets.gpu_bytes = device_memory(device).free_bytes / sharing * 95 / 100;
    budgets.dram_bytes = host * 85 / 100;
  } else {
    // Both tiers are host memory: what one has, the other has not.
    budgets.gpu_bytes = host * 60 / 100;
    budgets.dram_bytes = host * 25 / 100;
  }
  budgets.ssd_bytes = free_disk_bytes(request.offload_dir) / local * 90 / 100;
  budgets.gpu_bytes = request.gpu_mem.value_or(budgets.gpu_bytes);
  budgets.dram_bytes = request.cpu_mem.value_or(budgets.dram_bytes);
  budgets.ssd_bytes = request.disk_mem.value_or(budgets.ssd_bytes);
  if (device.is_cuda()) {
    if (budgets.gpu_bytes <= gpu_reserve_bytes)
      throw UserError(ExitCode::does_not_fit, fmt::format("--gpu-mem {} is too small", format_bytes(budgets.gpu_bytes)),
                      fmt::format("{} of it are the libraries' own", format_bytes(gpu_reserve_bytes)), "Give more");
    budgets.gpu_bytes -= gpu_reserve_bytes;
  }
  return budgets;
}

DType choose_dtype(std::optional<DType> wanted, const Device& device, DType stored) {
  if (wanted) return *wanted;
  if (!device.is_cuda()) return host_kernels().multiplies_bfloat16 ? DType::bfloat16 : DType::float32;
  if (stored == DType::bfloat16 && compute_capability(device) >= 80) return DType::bfloat16;
  return DType::float16;
}

ProcessorShare share_of_rank(const std::vector<ProcessorGrant>& grants, std::size_t own) {
  const ProcessorGrant& mine = grants[own];
  const auto shares = [&](const ProcessorGrant& other) {
    return std::ranges::any_of(mine.allowed, [&](std::int32_t processor) {
      return std::ranges::find(other.allowed, processor) != other.allowed.end();
    });
  };
  const auto sharing = std::max<std::ptrdiff_t>(1, std::ranges::count_if(grants, shares));
  ProcessorShare share;
  share.count = static_cast<double>(mine.allowed.size()) / static_cast<double>(sharing);
  share.order = static_cast<std::int32_t>(
      std::count_if(grants.begin(), grants.begin() + static_cast<std::ptrdiff_t>(own), shares));
  if (mine.quota > 0) {
    const auto in_group = std::ranges::count(grants, mine.group, &ProcessorGrant::group);
    share.count = std::min(share.count, mine.quota / static_cast<double>(in_group));
  }
  return share;
}

ProcessorShare own_processors(Communicator& ranks) {
  ProcessorGrant own;
  for (const int processor : allowed_processors()) own.allowed.push_back(processor);
  if (own.allowed.empty())  // the kernel does not say
    for (int i = 0; i < num_available_processors(); ++i) own.allowed.push_back(i);
  if (const double quota = processor_quota(); std::isfinite(quota)) own.quota = quota;
  std::ifstream groups("/proc/self/cgroup");
  own.group.assign(std::istreambuf_iterator<char>(groups), {});
  const std::vector<ProcessorGrant> all = gather(ranks, own);
  const int rank = ranks.rank();
  std::vector<ProcessorGrant> here;
  for (int r = 0; r < ranks.size(); ++r)
    if (ranks.place(r).node == ranks.place(rank).node) here.push_back(all[static_cast<std::size_t>(r)]);
  return share_of_rank(here, static_cast<std::size_t>(ranks.local_rank()));
}

void share_processors(Communicator& ranks, bool beside_gpu) {
  const ProcessorShare share = own_processors(ranks);
  if (const char* wanted = std::getenv("OMP_NUM_THREADS")) {
    if (const int num_threads = std::atoi(wanted); num_threads > 0) return set_num_loop_threads(num_threads);
  }
  const int own = static_cast<int>(share.count);
  // Copies, disk and launches of kernels have threads of their own, and too many readers of memory hold DMA up.
  constexpr int kept_free = 3;
  if (!beside_gpu || own <= 2 * kept_free) return set_num_loop_threads(std::max(1, own));
  set_num_loop_threads(own - kept_free);
  // The rank's processors, past those kept free and the one for whoever starts a loop.
  const std::vector<int> processors = allowed_processors();
  const int first = share.order * own;
  if (static_cast<int>(processors.size()) >= first + own)
    pin_loop_threads({processors.begin() + first + kept_free + 1, processors.begin() + first + own});
}

}  // namespace flexgen

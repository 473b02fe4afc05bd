#include "run/planning/profile_correction.hpp"

#include <fmt/core.h>

#include <algorithm>
#include <filesystem>
#include <vector>

namespace flexgen {
namespace {

template <class Rate>
void scale(std::vector<Rate>& rates, double factor) {
  for (Rate& rate : rates) rate.bytes_per_second *= factor;
}

void scale(std::vector<MatrixRate>& rates, DType dtype, double factor) {
  for (MatrixRate& rate : rates)
    if (rate.dtype == dtype) rate.operations_per_second *= factor;
}

// As scale_ceiling has it: products are arithmetic, what processors do beside them their memory's.
void scale(OpRates& ops, DType dtype, Ceiling ceiling, double factor) {
  const auto scale_all = [&](auto& rates, auto member) {
    for (auto& rate : rates)
      if (rate.dtype == dtype) rate.*member *= factor;
  };
  if (ceiling == Ceiling::matrix) return scale_all(ops.products, &ProductRate::operations_per_second);
  scale_all(ops.cache_reads, &CacheReadRate::bytes_per_second);
  scale_all(ops.prompts, &PromptRate::operations_per_second);
  scale_all(ops.prompts, &PromptRate::written_elements_per_second);
  scale_all(ops.norms, &NormRate::elements_per_second);
}

void correct_host_memory(HardwareProfile& profile, double factor) {
  scale(profile.memory.read, factor);
  scale(profile.memory.copy, factor);
  if (!profile.gpu) return;
  for (SharedMemoryRate& rate : profile.gpu->beside_host_reads) rate.read_bytes_per_second *= factor;
}

void correct_disk(DiskProfile& disk, double factor) {
  scale(disk.read, factor);
  scale(disk.write, factor);
  if (disk.sustained_read) disk.sustained_read->bytes_per_second *= factor;
  if (disk.sustained_write) disk.sustained_write->bytes_per_second *= factor;
}

void correct_gpu(GpuProfile& gpu, DType dtype, Ceiling ceiling, double factor) {
  if (ceiling == Ceiling::matrix) scale(gpu.matrix, dtype == DType::bfloat16 ? DType::float16 : dtype, factor);
  if (ceiling == Ceiling::gpu_memory) gpu.memory_bytes_per_second *= factor;
  if (ceiling == Ceiling::host_to_gpu) {
    scale(gpu.host_to_gpu, factor);
    for (SharedMemoryRate& rate : gpu.beside_host_reads) rate.host_to_gpu_bytes_per_second *= factor;
  }
  if (ceiling == Ceiling::gpu_to_host) scale(gpu.gpu_to_host, factor);
  if (ceiling == Ceiling::both_directions) scale(gpu.both_directions, factor);
}

// Why a file is left as it is; empty where it may be corrected.
std::string why_not(const HardwareProfile& profile, const std::string& host, const HardwareProfile& used) {
  if (profile.sources) return "figures of it are from elsewhere";
  if (profile.host != host) return fmt::format("it was measured on {}", profile.host);
  if (profile != used) return "it has changed since the job began";
  return "";
}

// One note of a ceiling, however often it is corrected: jobs are many.
void note(HardwareProfile& profile, const CorrectedCeiling& correction) {
  if (!profile.corrected) profile.corrected.emplace();
  const auto earlier = std::ranges::find(*profile.corrected, correction.ceiling, &CorrectedCeiling::ceiling);
  if (earlier == profile.corrected->end()) {
    profile.corrected->push_back(correction);
    return;
  }
  earlier->factor *= correction.factor;
  earlier->reason = correction.reason;
}

}  // namespace

void correct_rates(HardwareProfile& profile, const RatesInUse& use, Ceiling ceiling, double factor) {
  if (use.on_gpu && profile.gpu) correct_gpu(*profile.gpu, use.dtype, ceiling, factor);
  const bool is_of_host = ceiling == Ceiling::host_memory || (!use.on_gpu && ceiling == Ceiling::matrix);
  if (is_of_host && profile.memory.ops) scale(*profile.memory.ops, use.dtype, ceiling, factor);
  if (!use.on_gpu && ceiling == Ceiling::matrix) scale(profile.memory.matrix, use.dtype, factor);
  if (ceiling == Ceiling::host_memory) correct_host_memory(profile, factor);
  if (ceiling == Ceiling::disk && profile.disk) correct_disk(*profile.disk, factor);
  if (ceiling == Ceiling::network)
    for (LinkProfile& link : profile.links)
      if (link.transport == use.transport) scale(link.rates, factor);
}

std::string correct_file(const std::string& named, const std::string& host, const HardwareProfile& used,
                         const RatesInUse& use, const WrongCeiling& wrong, const std::string& reason) {
  const std::filesystem::path path = named.empty() ? default_profile_path(host) : std::filesystem::path(named);
  std::optional<LoadedProfile> loaded = load_profile(named, host);
  const std::string why = loaded ? why_not(loaded->profile, host, used) : "it is not there any more";
  if (!why.empty()) return fmt::format("the profile {} stays as it is: {}", path.string(), why);
  HardwareProfile& profile = loaded->profile;
  correct_rates(profile, use, wrong.ceiling, wrong.factor());
  note(profile, {std::string(ceiling_name(wrong.ceiling)), wrong.factor(), reason});
  save_profile(profile, path);
  return fmt::format("the profile {} is corrected: {} x {:.3g}", path.string(), ceiling_name(wrong.ceiling),
                     wrong.factor());
}

}  // namespace flexgen

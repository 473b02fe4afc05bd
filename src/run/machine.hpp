// Which device a rank computes on, and what it may take of its machine.
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "base/fields.hpp"
#include "comm/communicator.hpp"
#include "device/device.hpp"
#include "run/job_request.hpp"
#include "spec/policy.hpp"

namespace flexgen {

/// `--device` resolved for this rank: the GPU of its number on the machine. Where auto leaves a GPU of the machine
/// unused, that is warned about. Throws UserError (usage) when cuda is asked for and there is none.
Device choose_device(const MachineRequest& request, const Communicator& ranks);

/// Collective. All ranks compute on GPUs, or none does: a float16 rank and a float32 rank do not fit together.
Device agree_on_device(const MachineRequest& request, Communicator& ranks);

/// Why a machine with a driver for GPUs has none that this program can use; empty: it has no driver. To be asked where
/// num_cuda_devices() is 0. @param root where /proc is found
std::string why_gpu_is_unused(const std::filesystem::path& root = "/");

/// The budgets given, or what the machine has now, less a margin, shared by the ranks of the machine.
Budgets choose_budgets(const MachineRequest& request, const Device& device, const Communicator& ranks);

/// The one that was wanted; else on a CPU bfloat16 where the processor multiplies it, else float32; the checkpoint's
/// own 16-bit type on a GPU (float16 where the GPU has no bfloat16).
DType choose_dtype(std::optional<DType> wanted, const Device& device, DType stored);

/// GPU memory outside the budgeted arena: cuBLAS and the run-time's own.
inline constexpr std::uint64_t gpu_reserve_bytes = 96ULL << 20;

/// What a rank may use of its machine's processors.
struct ProcessorGrant {
  std::vector<std::int32_t> allowed;  // by their numbers
  double quota = 0;                   // of processor time, of the whole control group; 0: none
  std::string group;                  // the control groups that it is in
  static constexpr auto fields() {
    return std::tuple(field("allowed", &ProcessorGrant::allowed), field("quota", &ProcessorGrant::quota),
                      field("group", &ProcessorGrant::group));
  }
};

/// A rank's part of those that it may use.
struct ProcessorShare {
  double count = 1;        // need not be whole
  std::int32_t order = 0;  // among the ranks with which it shares them
};

/// Ranks share processors with those that may run there, too, and time with those of their control group.
/// @param grants  of the ranks of a machine
ProcessorShare share_of_rank(const std::vector<ProcessorGrant>& grants, std::size_t own);

/// Collective.
ProcessorShare own_processors(Communicator& ranks);

/// Collective. Divides the processors among the ranks of the machine that share them, unless OMP_NUM_THREADS says
/// otherwise. Beside a GPU that the processors attend for, some are kept free.
void share_processors(Communicator& ranks, bool beside_gpu);

}  // namespace flexgen

// Kernels that start while the one before them in the stream still runs (programmatic dependent launch, sm_90 on;
// elsewhere they start when it has ended). What a step of few tokens loses between its many short kernels is so
// regained. Source: CUDA Programming Guide, "Programmatic Dependent Launch and Synchronization".
//
// Rules. A kernel launched by launch_dependent calls start_dependents_after_predecessor() before it reads or writes
// anything that another kernel of the stream touches. What it reads earlier (weights) must have been complete before
// the kernel *before* it started: ordered by an event, or written at least two kernels ago.
#pragma once

#include "device/device.hpp"
#include "ops/cuda/cuda_launch.cuh"

namespace flexgen {

/// Waits until all that came before in the stream is complete and visible, then lets the next kernel start. In this
/// order: a kernel that has started thus knows that the last but one is complete.
__device__ inline void start_dependents_after_predecessor() {
#if __CUDA_ARCH__ >= 900
  asm volatile("griddepcontrol.wait;\n" ::: "memory");
  asm volatile("griddepcontrol.launch_dependents;\n" ::: "memory");
#endif
}

/// Of the device, kept after the first time: they are asked for at every launch.
inline int known_attribute(const Device& device, cudaDeviceAttr attribute, int (&known)[64]) {
  int& value = known[device.index % 64];  // 0: not asked yet; races write the same value
  if (value == 0) FLEXGEN_CUDA_CALL(cudaDeviceGetAttribute(&value, attribute, device.index));
  return value;
}
inline int known_capability(const Device& device) {
  static int major[64] = {};
  return 10 * known_attribute(device, cudaDevAttrComputeCapabilityMajor, major);
}
inline int num_multiprocessors(const Device& device) {
  static int number[64] = {};
  return known_attribute(device, cudaDevAttrMultiProcessorCount, number);
}
/// Shared memory that one block may have.
inline int max_shared_bytes(const Device& device) {
  static int bytes[64] = {};
  return known_attribute(device, cudaDevAttrMaxSharedMemoryPerBlockOptin, bytes);
}
/// Runs what a kernel needs to be told once on each device; a race does it twice. One per kernel.
class OncePerDevice {
 public:
  template <typename Prepare>
  void operator()(const Device& device, const Prepare& prepare) {
    bool& done = done_[device.index % 64];
    if (!done) prepare();
    done = true;
  }

 private:
  bool done_[64] = {};
};

inline bool has_dependent_launch(const Device& device) { return known_capability(device) >= 90; }
inline bool has_asynchronous_copies(const Device& device) { return known_capability(device) >= 80; }

/// Enqueues kernel(params) as a dependent of what runs before it. Clusters of more than one block: sm_90 on.
template <typename Params>
void launch_dependent(const OpContext& context, void (*kernel)(Params), dim3 grid, dim3 block, const Params& params,
                      const char* name, std::size_t shared_bytes = 0, dim3 cluster = dim3(1)) {
  cudaLaunchAttribute attributes[2] = {};
  unsigned count = 0;
  if (has_dependent_launch(context.device)) {
    attributes[count].id = cudaLaunchAttributeProgrammaticStreamSerialization;
    attributes[count++].val.programmaticStreamSerializationAllowed = 1;
  }
  if (cluster.x * cluster.y * cluster.z > 1) {
    attributes[count].id = cudaLaunchAttributeClusterDimension;
    attributes[count++].val.clusterDim = {cluster.x, cluster.y, cluster.z};
  }
  cudaLaunchConfig_t config{};
  config.gridDim = grid;
  config.blockDim = block;
  config.dynamicSmemBytes = shared_bytes;
  config.stream = stream_of(context);
  config.attrs = attributes;
  config.numAttrs = count;
  check_cuda(cudaLaunchKernelEx(&config, kernel, params), name);
}

}  // namespace flexgen

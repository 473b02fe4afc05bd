// Plans of the shapes in configs/, for the tests of the policy room.
#pragma once

#include <filesystem>
#include <string>
#include <utility>

#include "base/bytes.hpp"
#include "model/layer.hpp"
#include "model/read_spec.hpp"
#include "model/slice_description.hpp"
#include "policy/roofline.hpp"
#include "policy/stage_plan.hpp"

namespace flexgen::test {

/// "demo-model" or a name in configs/models.
inline ModelSpec model_of(const std::string& name) {
  const std::filesystem::path configs = std::filesystem::path(FLEXGEN_SOURCE_DIR) / "configs";
  return read_model_spec((name == "demo-model" ? configs / name : configs / "models" / name).string());
}

inline std::vector<LayerDescription> layers_of(const ModelSpec& model, bool separate = true) {
  return describe(make_layers(model, {0, model.num_layers, true, true}, separate));
}

/// One rank, host device; prompt and new tokens as given.
inline PlanInput plan_for(const std::string& name, std::int32_t rows_per_batch, std::int32_t num_batches,
                          const std::array<double, 6>& percent, DType dtype = DType::float16,
                          std::int32_t prompt_tokens = 512, std::int32_t new_tokens = 32, std::int64_t num_rows = 96) {
  const ModelSpec model = model_of(name);
  Policy policy;
  policy.micro_batch_size = rows_per_batch;
  policy.num_micro_batches = num_batches;
  policy.placement = make_placement(percent);
  policy.dtype = dtype;
  const JobShape job{prompt_tokens, new_tokens, prompt_tokens + new_tokens, num_rows};
  SliceDescription slice = describe_slice(model, {0, model.num_layers, true, true}, true, Device{});
  slice.num_loop_threads = 2;  // on any machine
  return plan_input(model, std::move(slice), policy, job);
}

/// A GPU machine as measured once: 16-bit products at 744 TFLOP/s, and so on.
inline Ceilings big_gpu() {
  Ceilings c;
  c.matrix_operations = 744e12;
  c.gpu_memory_bytes = 4256e9;
  c.host_to_gpu_bytes = 54.9e9;
  c.gpu_to_host_bytes = 55.3e9;
  c.both_directions_bytes = 101e9;
  c.host_read_bytes = 99e9;
  c.host_copy_bytes = 117e9;
  c.disk_read_bytes = 2.3e9;
  c.disk_write_bytes = 2.7e9;
  c.network_bytes = 358e9;
  return c;
}

}  // namespace flexgen::test

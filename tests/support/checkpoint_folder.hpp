// A checkpoint of random weights for a test's layers: one safetensors file, every tensor under its first name.
#pragma once

#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "base/bytes.hpp"
#include "weights/weight_source.hpp"

namespace flexgen::test {

/// The values are those of make_random_source, rounded to `dtype` (float16 or float32).
inline void write_checkpoint(const std::vector<LayerDescription>& layers, DType dtype,
                             const std::filesystem::path& folder) {
  const auto reader = make_random_source()->make_reader();
  nlohmann::ordered_json entries;
  std::vector<std::byte> data;
  for (const LayerDescription& layer : layers)
    for (const WeightSpec& weight : layer.weights) {
      std::int64_t first = 0;
      for (const CheckpointKeys& source : weight.sources) {
        const std::uint64_t at = data.size();
        const std::uint64_t bytes = static_cast<std::uint64_t>(source.num_elements) * element_bytes(dtype);
        if (!entries.contains(source.keys.front())) {
          data.resize(at + bytes);
          const WeightPiece piece{&weight, first, source.num_elements, data.data() + at};
          reader->produce({&piece, 1}, dtype);
          entries[source.keys.front()] = {{"dtype", dtype == DType::float16 ? "F16" : "F32"},
                                          {"shape", {source.num_elements}},
                                          {"data_offsets", {at, at + bytes}}};
        }
        first += source.num_elements;
      }
    }
  std::string header = entries.dump();
  header.resize(align_up(header.size(), 8), ' ');
  const std::uint64_t size = header.size();
  std::ofstream file(folder / "model.safetensors", std::ios::binary);
  file.write(reinterpret_cast<const char*>(&size), sizeof size);
  file << header;
  file.write(reinterpret_cast<const char*>(data.data()), static_cast<std::streamsize>(data.size()));
}

}  // namespace flexgen::test

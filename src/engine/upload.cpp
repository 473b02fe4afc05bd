#include "engine/upload.hpp"

#include "ops/elementwise.hpp"

namespace flexgen {

void upload(Stream& compute, const OpContext& context, const Buffer& from, std::uint64_t offset, std::int64_t rows,
            std::int64_t words, std::byte* to, const char* what) {
  const auto view = [&](std::byte* data) { return contiguous_view(data, rows, words, DType::float32); };
  if (from.seen_by_device() != nullptr) copy(context, view(from.seen_by_device() + offset), view(to));
  else compute.copy(to, from.data() + offset, view(to).size_bytes(), Resource::host_to_gpu, what);
}

}  // namespace flexgen

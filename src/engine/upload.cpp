#include "engine/upload.hpp"

#include "base/error.hpp"
#include "ops/elementwise.hpp"

namespace flexgen {

void upload(Stream& stream, const Buffer& from, std::uint64_t offset, std::byte* to, std::uint64_t count,
            const char* what) {
  FLEXGEN_CHECK(offset + count <= from.size_bytes(), "an upload of what is not there");
  if (from.seen_by_device() == nullptr) {
    stream.copy(to, from.data() + offset, count, Resource::host_to_gpu, what);
    return;
  }
  const StreamSpan span(stream, Resource::host_to_gpu, what, count);
  copy_bytes({stream.device(), stream.native()}, from.seen_by_device() + offset, to, count);
}

}  // namespace flexgen

#include "engine/upload.hpp"

#include "base/error.hpp"
#include "ops/elementwise.hpp"

namespace flexgen {

void upload(Stream& stream, const OpContext& context, const Buffer& from, std::uint64_t offset, const MatrixView& to,
            const char* what) {
  FLEXGEN_CHECK(to.contiguous() && offset + to.size_bytes() <= from.size_bytes(), "an upload of what is not there");
  if (from.seen_by_device() == nullptr) {
    stream.copy(to.data, from.data() + offset, to.size_bytes(), Resource::host_to_gpu, what);
    return;
  }
  const StreamSpan span(stream, Resource::host_to_gpu, what, to.size_bytes());
  copy(context, contiguous_view(from.seen_by_device() + offset, to.rows, to.cols, to.dtype), to);
}

}  // namespace flexgen

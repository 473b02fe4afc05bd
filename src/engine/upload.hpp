// Small arrays from the host to a GPU, in the order of the compute stream: what a computation is told, not what it
// computes with.
#pragma once

#include <cstdint>

#include "device/buffer.hpp"
#include "device/stream.hpp"
#include "ops/context.hpp"

namespace flexgen {

/// Brings [rows, words] of four bytes each from `offset` bytes on in `from` to `to` on the device; `from` must keep
/// them until the stream has come there. `compute` is the stream of `context`, and inline.
/// A kernel reads them where the GPU can read `from`: a copy waits for all that other streams have asked of the copy
/// engine, and with it the computation (17 ms for 2 KB, traced on an H200 that streams OPT-30B).
void upload(Stream& compute, const OpContext& context, const Buffer& from, std::uint64_t offset, std::int64_t rows,
            std::int64_t words, std::byte* to, const char* what);

}  // namespace flexgen

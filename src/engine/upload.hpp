// Small arrays from the host to a GPU, in the order of a stream, past what other streams load.
#pragma once

#include <cstdint>

#include "device/buffer.hpp"
#include "device/stream.hpp"

namespace flexgen {

/// `count` bytes of `from` from `offset` on to the stream's device. `from` must keep them until the stream has come
/// there. The calling rule is that of Stream::copy.
/// A kernel reads it where the GPU can read `from`: a copy waits for all that other streams have asked of the copy
/// engine, and with it the computation (17 ms for 2 KB, traced on an H200 that streams OPT-30B).
void upload(Stream& stream, const Buffer& from, std::uint64_t offset, std::byte* to, std::uint64_t count,
            const char* what);

}  // namespace flexgen

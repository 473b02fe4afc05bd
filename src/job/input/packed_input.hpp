// Inputs that are packed with gzip or zstd, unpacked as they are read.
//
// Private to the room. Memory is bounded whatever a file unpacks to: a window of a format's own limit (gzip 32 KiB,
// zstd 128 MiB) and two buffers. Several members or frames, one behind the other, are one text.
// Source: RFC 1952 (gzip), RFC 8878 (zstd).
#pragma once

#include <memory>
#include <string_view>

#include "job/input/byte_source.hpp"
#include "job/packing.hpp"

namespace flexgen {

/// By the first bytes, whatever the file is called.
Packing packing_of_content(std::string_view head);

/// What is packed is given out up to the place where it breaks off or is corrupt; the read after that throws
/// InputFault.
/// @param head  bytes of `from` that were read already
std::unique_ptr<ByteSource> unpack(Packing packing, std::string_view head, std::unique_ptr<ByteSource> from);

}  // namespace flexgen

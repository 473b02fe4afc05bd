// Entry for libFuzzer (clang, -DFLEXGEN_LIBFUZZER=ON): the first byte picks the reader, the rest is the file.
#include <cstdint>

#include "tests/weights/checkpoint/fuzz_target.hpp"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace flexgen::checkpoint;
  if (size == 0) return 0;
  fuzz_one(static_cast<FuzzFormat>(data[0] % num_fuzz_formats), std::as_bytes(std::span(data + 1, size - 1)));
  return 0;
}

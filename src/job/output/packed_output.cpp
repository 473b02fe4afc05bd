#include "job/output/packed_output.hpp"

#include <zlib.h>
#include <zstd.h>

#include "base/error.hpp"

namespace flexgen {
namespace {

std::string pack_gzip(std::string_view bytes) {
  constexpr int gzip_window_bits = 15 + 16, memory_level = 8;
  z_stream stream{};
  FLEXGEN_CHECK(::deflateInit2(&stream, Z_DEFAULT_COMPRESSION, Z_DEFLATED, gzip_window_bits, memory_level,
                               Z_DEFAULT_STRATEGY) == Z_OK,
                "zlib does not begin");
  std::string packed(::deflateBound(&stream, bytes.size()), '\0');
  stream.next_in = reinterpret_cast<Bytef*>(const_cast<char*>(bytes.data()));  // zlib reads it alone
  stream.avail_in = static_cast<uInt>(bytes.size());
  stream.next_out = reinterpret_cast<Bytef*>(packed.data());
  stream.avail_out = static_cast<uInt>(packed.size());
  const int status = ::deflate(&stream, Z_FINISH);
  packed.resize(stream.total_out);
  ::deflateEnd(&stream);
  FLEXGEN_CHECK(status == Z_STREAM_END, "zlib did not pack all");
  return packed;
}

std::string pack_zstd(std::string_view bytes) {
  std::string packed(::ZSTD_compressBound(bytes.size()), '\0');
  const std::size_t size =
      ::ZSTD_compress(packed.data(), packed.size(), bytes.data(), bytes.size(), ZSTD_CLEVEL_DEFAULT);
  FLEXGEN_CHECK(::ZSTD_isError(size) == 0, "zstd did not pack all");
  packed.resize(size);
  return packed;
}

}  // namespace

Packing packing_of_name(std::string_view path) {
  if (path.ends_with(".gz")) return Packing::gzip;
  return path.ends_with(".zst") ? Packing::zstd : Packing::none;
}

std::string pack(Packing packing, std::string_view bytes) {
  FLEXGEN_CHECK(packing != Packing::none, "nothing to pack with");
  return packing == Packing::gzip ? pack_gzip(bytes) : pack_zstd(bytes);
}

}  // namespace flexgen

#include "job/input/packed_input.hpp"

#include <fmt/core.h>
#include <zlib.h>
#include <zstd.h>
#include <zstd_errors.h>

#include <algorithm>
#include <array>
#include <vector>

#include "base/bytes.hpp"
#include "base/error.hpp"

namespace flexgen {
namespace {

using namespace std::string_view_literals;

constexpr std::string_view gzip_mark = "\x1F\x8B"sv;
constexpr std::string_view zstd_mark = "\x28\xB5\x2F\xFD"sv;
constexpr std::size_t packed_bytes = 128 * KiB;
constexpr const char* fetch_again = "Fetch or write the file again";

InputFault cut_short(std::string_view format) {
  return {fmt::format("it breaks off within its {} data", format), fetch_again};
}

InputFault corrupt(std::string_view format, std::string_view detail) {
  return {fmt::format("its {} data are corrupt ({})", format, detail), fetch_again};
}

/// Bytes of another source, some at a time, of which the beginning may have been read already.
class PackedBytes {
 public:
  PackedBytes(std::string_view head, std::unique_ptr<ByteSource> from)
      : from_(std::move(from)), bytes_(head.begin(), head.end()), end_(head.size()) {
    bytes_.resize(std::max(packed_bytes, head.size()));
  }

  std::string_view unread() const { return {bytes_.data() + begin_, end_ - begin_}; }
  void skip(std::size_t count) { begin_ += count; }
  /// Whether there are at least so many, few, after reading what it takes.
  bool await(std::size_t count) {
    while (end_ - begin_ < count) {
      std::copy(bytes_.begin() + static_cast<std::ptrdiff_t>(begin_),
                bytes_.begin() + static_cast<std::ptrdiff_t>(end_), bytes_.begin());
      end_ -= std::exchange(begin_, 0);
      const std::size_t added = from_->read(std::span(bytes_).subspan(end_));
      if (added == 0) return false;
      end_ += added;
    }
    return true;
  }

 private:
  std::unique_ptr<ByteSource> from_;
  std::vector<char> bytes_;
  std::size_t begin_ = 0, end_ = 0;  // of what is unread
};

class GzipInput final : public ByteSource {
 public:
  GzipInput(std::string_view head, std::unique_ptr<ByteSource> from) : packed_(head, std::move(from)) {
    constexpr int gzip_alone = 16;
    if (::inflateInit2(&stream_, MAX_WBITS + gzip_alone) != Z_OK) throw InternalError("zlib cannot begin to unpack");
  }
  GzipInput(const GzipInput&) = delete;
  GzipInput& operator=(const GzipInput&) = delete;
  ~GzipInput() override { ::inflateEnd(&stream_); }

  std::size_t read(std::span<char> into) override {
    while (!is_over_) {
      if (is_between_ && !begin_member()) break;
      if (!packed_.await(1)) throw cut_short("gzip");
      if (const std::size_t count = inflate_some(into); count > 0) return count;
    }
    return 0;
  }

 private:
  /// Zeros may stand behind the last member, as tapes have them.
  bool begin_member() {
    while (packed_.await(1) && packed_.unread().front() == '\0') packed_.skip(1);
    if (!packed_.await(1)) {
      is_over_ = true;
      return false;
    }
    packed_.await(gzip_mark.size());
    if (!packed_.unread().starts_with(gzip_mark)) throw corrupt("gzip", "other bytes stand behind them");
    ::inflateReset(&stream_);
    is_between_ = false;
    return true;
  }

  std::size_t inflate_some(std::span<char> into) {
    const std::string_view from = packed_.unread();
    stream_.next_in = reinterpret_cast<Bytef*>(const_cast<char*>(from.data()));
    stream_.avail_in = static_cast<uInt>(from.size());
    stream_.next_out = reinterpret_cast<Bytef*>(into.data());
    stream_.avail_out = static_cast<uInt>(into.size());
    const int outcome = ::inflate(&stream_, Z_NO_FLUSH);
    packed_.skip(from.size() - stream_.avail_in);
    const std::size_t count = into.size() - stream_.avail_out;
    if (outcome == Z_STREAM_END) is_between_ = true;
    else if (outcome != Z_OK && outcome != Z_BUF_ERROR && count == 0)
      throw corrupt("gzip", stream_.msg ? stream_.msg : ::zError(outcome));
    return count;
  }

  PackedBytes packed_;
  z_stream stream_{};
  bool is_between_ = false;  // two members, or at the end
  bool is_over_ = false;
};

struct FreeZstd {
  void operator()(ZSTD_DCtx* context) const { ZSTD_freeDCtx(context); }
};

class ZstdInput final : public ByteSource {
 public:
  ZstdInput(std::string_view head, std::unique_ptr<ByteSource> from)
      : packed_(head, std::move(from)), context_(ZSTD_createDCtx()) {
    FLEXGEN_CHECK(context_, "zstd cannot begin to unpack");
  }

  std::size_t read(std::span<char> into) override {
    for (;;) {
      // What a frame still holds may come without another byte of it.
      const bool has_bytes = packed_.await(1);
      if (!has_bytes && is_between_) return 0;
      const std::string_view from = packed_.unread();
      ZSTD_inBuffer in{from.data(), from.size(), 0};
      ZSTD_outBuffer out{into.data(), into.size(), 0};
      const std::size_t outcome = ZSTD_decompressStream(context_.get(), &out, &in);
      packed_.skip(in.pos);
      if (ZSTD_isError(outcome)) fail(outcome);
      is_between_ = outcome == 0;
      if (out.pos > 0) return out.pos;
      if (!has_bytes) throw cut_short("zstd");
    }
  }

 private:
  [[noreturn]] static void fail(std::size_t outcome) {
    const char* detail = ZSTD_getErrorName(outcome);
    if (ZSTD_getErrorCode(outcome) == ZSTD_error_frameParameter_windowTooLarge)
      throw InputFault("its zstd data need more than 128 MiB to be unpacked", "Unpack it first: zstd -d --long=31");
    throw corrupt("zstd", detail);
  }

  PackedBytes packed_;
  std::unique_ptr<ZSTD_DCtx, FreeZstd> context_;
  bool is_between_ = false;  // two frames, or at the end
};

}  // namespace

Packing packing_of_content(std::string_view head) {
  if (head.starts_with(gzip_mark)) return Packing::gzip;
  return head.starts_with(zstd_mark) ? Packing::zstd : Packing::none;
}

std::unique_ptr<ByteSource> unpack(Packing packing, std::string_view head, std::unique_ptr<ByteSource> from) {
  if (packing == Packing::gzip) return std::make_unique<GzipInput>(head, std::move(from));
  FLEXGEN_CHECK(packing == Packing::zstd, "what is not packed is unpacked");
  return std::make_unique<ZstdInput>(head, std::move(from));
}

}  // namespace flexgen

#include "weights/checkpoint/byte_source.hpp"

#include <fcntl.h>
#include <fmt/core.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>

#include "base/bytes.hpp"
#include "base/error.hpp"
#include "weights/checkpoint/refusal.hpp"

namespace flexgen::checkpoint {

namespace {

void check_range(const ByteSource& source, std::uint64_t offset_bytes, std::uint64_t size_bytes,
                 std::string_view what) {
  if (offset_bytes <= source.size_bytes() && size_bytes <= source.size_bytes() - offset_bytes) return;
  refuse_file(source.name(), fmt::format("{} should lie at byte {} with {} bytes, but the file has {} bytes", what,
                                         offset_bytes, size_bytes, source.size_bytes()));
}

}  // namespace

FileBytes::FileBytes(const std::filesystem::path& path) : name_(path.string()) {
  // O_NONBLOCK: a FIFO of that name must not hang us; regular files ignore it.
  descriptor_ = ::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK);
  if (descriptor_ < 0) refuse_file(name_, errno_text(errno), "Check that the file exists and may be read");
  struct stat status {};
  const int error_number = ::fstat(descriptor_, &status) == 0 ? 0 : errno;
  if (error_number != 0 || !S_ISREG(status.st_mode)) {
    ::close(descriptor_);
    refuse_file(name_, error_number != 0 ? errno_text(error_number) : "it is not a regular file",
                "Name a folder that holds a downloaded model");
  }
  size_bytes_ = static_cast<std::uint64_t>(status.st_size);
}

FileBytes::~FileBytes() { ::close(descriptor_); }

void FileBytes::read(std::uint64_t offset_bytes, std::span<std::byte> dst, std::string_view what) const {
  check_range(*this, offset_bytes, dst.size(), what);
  constexpr std::size_t max_chunk_bytes = GiB;  // Linux cuts a single read at 2 GiB
  while (!dst.empty()) {
    const ssize_t got =
        ::pread(descriptor_, dst.data(), std::min(dst.size(), max_chunk_bytes), static_cast<off_t>(offset_bytes));
    if (got < 0) {
      if (errno == EINTR) continue;
      refuse_file(name_, fmt::format("reading {} at byte {} failed: {}", what, offset_bytes, errno_text(errno)),
                  "Check the disk or the network file system");
    }
    if (got == 0) {
      refuse_file(name_, fmt::format("it ended at byte {} while {} was read: it was cut short after it was opened",
                                     offset_bytes, what));
    }
    dst = dst.subspan(static_cast<std::size_t>(got));
    offset_bytes += static_cast<std::uint64_t>(got);
  }
}

void MemoryBytes::read(std::uint64_t offset_bytes, std::span<std::byte> dst, std::string_view what) const {
  check_range(*this, offset_bytes, dst.size(), what);
  std::copy_n(bytes_.begin() + static_cast<std::ptrdiff_t>(offset_bytes), dst.size(), dst.begin());
}

}  // namespace flexgen::checkpoint

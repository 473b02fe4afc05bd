// Weight sources that fail: while weights are brought to their homes, or later, while a sweep loads them.
#pragma once

#include <atomic>
#include <filesystem>
#include <fstream>
#include <memory>
#include <utility>

#include "base/error.hpp"
#include "storage/file_handle.hpp"
#include "tests/support/watched_weight_source.hpp"

namespace flexgen::test {

/// Fails the `failing_call`-th call of its readers (counted from 0).
class FaultyWeightSource final : public WatchedWeightSource {
 public:
  FaultyWeightSource(std::shared_ptr<const WeightSource> inner, int failing_call)
      : WatchedWeightSource(std::move(inner), [failing_call, num_calls = std::make_shared<std::atomic<int>>(0)] {
          if ((*num_calls)++ == failing_call)
            throw UserError(ExitCode::file, "injected into produce", "the shard is unreadable");
        }) {}
};

/// Says that every weight lies in a file which then proves to be too short: filling works, loading does not.
class ShortFileSource final : public WatchedWeightSource {
 public:
  ShortFileSource(std::shared_ptr<const WeightSource> inner, const std::filesystem::path& folder)
      : WatchedWeightSource(std::move(inner)), file_(make_file(folder / "short.bin")) {}

  bool in_place(const WeightSpec&, std::int64_t, std::int64_t count, DType dtype,
                std::vector<FileExtent>& extents) const override {
    extents.push_back({&file_, 1U << 20, static_cast<std::uint64_t>(count) * element_bytes(dtype)});
    return true;
  }

 private:
  static FileHandle make_file(const std::filesystem::path& path) {
    std::ofstream(path) << "short";
    return FileHandle::open_read(path, true);
  }
  FileHandle file_;
};

}  // namespace flexgen::test

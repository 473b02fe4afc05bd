// Weight sources that fail: while weights are brought to their homes, or later, while a sweep loads them. And one that
// gives what is no number.
#pragma once

#include <algorithm>
#include <atomic>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <memory>
#include <string>
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

/// NaN in one row of one matrix.
class DamagedWeightSource final : public WatchedWeightSource {
 public:
  DamagedWeightSource(std::shared_ptr<const WeightSource> inner, std::string weight, std::int64_t row)
      : WatchedWeightSource(std::move(inner), {},
                            [weight, row](const WeightPiece& piece, DType dtype) {
                              if (piece.weight->name == weight) damage(piece, row, dtype);
                            }),
        weight_(std::move(weight)) {}

  bool in_place(const WeightSpec& weight, std::int64_t first, std::int64_t count, DType dtype,
                std::vector<FileExtent>& extents) const override {
    return weight.name != weight_ && WatchedWeightSource::in_place(weight, first, count, dtype, extents);
  }

 private:
  static void damage(const WeightPiece& piece, std::int64_t row, DType dtype) {
    const std::uint32_t nan = dtype == DType::float32 ? 0x7FC00000U : dtype == DType::float16 ? 0x7E00U : 0x7FC0U;
    const auto bytes = static_cast<std::int64_t>(element_bytes(dtype));
    const std::int64_t begin = std::max(piece.first, row * piece.weight->cols);
    const std::int64_t end = std::min(piece.first + piece.count, (row + 1) * piece.weight->cols);
    for (std::int64_t i = begin; i < end; ++i)
      std::memcpy(piece.destination + (i - piece.first) * bytes, &nan, static_cast<std::size_t>(bytes));
  }

  const std::string weight_;
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

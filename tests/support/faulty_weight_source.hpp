// Weight sources that fail: while weights are brought to their homes, or later, while a sweep loads them. And one that
// gives what is no number.
#pragma once

#include <algorithm>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <memory>
#include <string>
#include <utility>

#include "base/error.hpp"
#include "engine/weight_source.hpp"
#include "storage/file_handle.hpp"

namespace flexgen::test {

/// Fails the `failing_call`-th produce (counted from 0).
class FaultyWeightSource final : public WeightSource {
 public:
  FaultyWeightSource(std::shared_ptr<WeightSource> inner, int failing_call)
      : inner_(std::move(inner)), failing_call_(failing_call) {}

  void require(std::span<const LayerDescription> layers) const override { inner_->require(layers); }
  void produce(std::span<const WeightPiece> pieces, DType dtype) override {
    if (num_calls_++ == failing_call_)
      throw UserError(ExitCode::file, "injected into produce", "the shard is unreadable");
    inner_->produce(pieces, dtype);
  }
  bool in_place(const WeightSpec& weight, std::int64_t first, std::int64_t count, DType dtype,
                std::vector<FileExtent>& extents) const override {
    return inner_->in_place(weight, first, count, dtype, extents);
  }

 private:
  std::shared_ptr<WeightSource> inner_;
  const int failing_call_;
  int num_calls_ = 0;
};

/// NaN in one row of one matrix.
class DamagedWeightSource final : public WeightSource {
 public:
  DamagedWeightSource(std::shared_ptr<WeightSource> inner, std::string weight, std::int64_t row)
      : inner_(std::move(inner)), weight_(std::move(weight)), row_(row) {}

  void require(std::span<const LayerDescription> layers) const override { inner_->require(layers); }
  void produce(std::span<const WeightPiece> pieces, DType dtype) override {
    inner_->produce(pieces, dtype);
    for (const WeightPiece& piece : pieces)
      if (piece.weight->name == weight_) damage(piece, dtype);
  }
  bool in_place(const WeightSpec& weight, std::int64_t first, std::int64_t count, DType dtype,
                std::vector<FileExtent>& extents) const override {
    return weight.name != weight_ && inner_->in_place(weight, first, count, dtype, extents);
  }

 private:
  void damage(const WeightPiece& piece, DType dtype) const {
    const std::uint32_t nan = dtype == DType::float32 ? 0x7FC00000U : dtype == DType::float16 ? 0x7E00U : 0x7FC0U;
    const auto bytes = static_cast<std::int64_t>(element_bytes(dtype));
    const std::int64_t begin = std::max(piece.first, row_ * piece.weight->cols);
    const std::int64_t end = std::min(piece.first + piece.count, (row_ + 1) * piece.weight->cols);
    for (std::int64_t i = begin; i < end; ++i)
      std::memcpy(piece.destination + (i - piece.first) * bytes, &nan, static_cast<std::size_t>(bytes));
  }

  std::shared_ptr<WeightSource> inner_;
  const std::string weight_;
  const std::int64_t row_;
};

/// Says that every weight lies in a file which then proves to be too short: filling works, loading does not.
class ShortFileSource final : public WeightSource {
 public:
  ShortFileSource(std::shared_ptr<WeightSource> inner, const std::filesystem::path& folder)
      : inner_(std::move(inner)), file_(make_file(folder / "short.bin")) {}

  void require(std::span<const LayerDescription> layers) const override { inner_->require(layers); }
  void produce(std::span<const WeightPiece> pieces, DType dtype) override { inner_->produce(pieces, dtype); }
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
  std::shared_ptr<WeightSource> inner_;
  FileHandle file_;
};

}  // namespace flexgen::test

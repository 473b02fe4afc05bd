// A weight source that tells of each read: slow ones, failing ones, ones that count, ones whose values are damaged.
#pragma once

#include <functional>
#include <memory>
#include <utility>

#include "weights/weight_source.hpp"

namespace flexgen::test {

class WatchedWeightSource : public WeightSource {
 public:
  using AfterPiece = std::function<void(const WeightPiece&, DType)>;

  /// Called by the reading threads: `before_read` before each call of a reader, `after_piece` with each piece that was
  /// produced. Both may be empty.
  explicit WatchedWeightSource(std::shared_ptr<const WeightSource> inner, std::function<void()> before_read = {},
                               AfterPiece after_piece = {})
      : inner_(std::move(inner)), before_read_(std::move(before_read)), after_piece_(std::move(after_piece)) {}

  void require(std::span<const LayerDescription> layers) const override { inner_->require(layers); }
  std::unique_ptr<WeightReader> make_reader() const override { return std::make_unique<Reader>(*this); }
  bool is_compressed() const override { return inner_->is_compressed(); }
  bool in_place(const WeightSpec& weight, std::int64_t first, std::int64_t count, DType dtype,
                std::vector<FileExtent>& extents) const override {
    return inner_->in_place(weight, first, count, dtype, extents);
  }

 private:
  class Reader final : public WeightReader {
   public:
    explicit Reader(const WatchedWeightSource& source) : source_(source), inner_(source.inner_->make_reader()) {}
    void produce(std::span<const WeightPiece> pieces, DType dtype) override {
      source_.tell();
      inner_->produce(pieces, dtype);
      if (!source_.after_piece_) return;
      for (const WeightPiece& piece : pieces) source_.after_piece_(piece, dtype);
    }
    void produce_compressed(const WeightSpec& weight, const QuantFormat& format, std::int64_t first, std::int64_t count,
                            std::byte* to) override {
      source_.tell();
      inner_->produce_compressed(weight, format, first, count, to);
    }

   private:
    const WatchedWeightSource& source_;
    std::unique_ptr<WeightReader> inner_;
  };
  void tell() const {
    if (before_read_) before_read_();
  }

  std::shared_ptr<const WeightSource> inner_;
  std::function<void()> before_read_;
  AfterPiece after_piece_;
};

/// Random values as a checkpoint has them: nothing of it is compressed, nothing lies in a file.
class PlainWeightSource final : public WatchedWeightSource {
 public:
  explicit PlainWeightSource(std::function<void()> before_read = {})
      : WatchedWeightSource(make_random_source(), std::move(before_read)) {}
  bool is_compressed() const override { return false; }
};

}  // namespace flexgen::test

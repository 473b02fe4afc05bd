#include "probe/op_probe.hpp"

#include <vector>

#include "base/bytes.hpp"
#include "ops/attention.hpp"
#include "ops/layer_norm.hpp"
#include "probe/matrix_probe.hpp"
#include "probe/timed_calls.hpp"

namespace flexgen {
namespace {

// A call of the engine: on a GPU large enough to keep all of it busy.
struct CallSize {
  std::int32_t rows;
  std::int32_t heads;
  std::int32_t head_dim;
};
CallSize call_size(const Device& device) { return device.is_cuda() ? CallSize{32, 32, 128} : CallSize{8, 16, 64}; }

// Rows that are all alike: `fresh` new tokens each at position `past`.
struct Rows {
  DType dtype;
  QuantFormat stored;
  std::int32_t past;
  std::int32_t fresh;
  std::int32_t length() const { return past + fresh; }
};

class Attention {
 public:
  /// @param spread_bytes  of caches that take turns
  Attention(const Rows& rows, const Device& device, std::uint64_t spread_bytes)
      : rows_(rows),
        size_(call_size(device)),
        calls_(device, attention_workspace_bytes(device, sizes())),
        cache_bytes_(position_bytes() * static_cast<std::uint64_t>(size_.heads * size_.rows * rows.length())),
        num_caches_(std::max<std::uint64_t>(2, spread_bytes / cache_bytes_)),
        cache_(calls_.make_operand(num_caches_ * cache_bytes_, rows.stored.is_none() ? rows.dtype : DType::float16)),
        qkv_(calls_.make_operand(3 * activation_bytes(), rows.dtype)),
        out_(MemoryKind::device, activation_bytes(), device) {
    for (std::int32_t r = 0; r <= size_.rows; ++r) offset_.push_back(r * rows.fresh);
    start_.assign(static_cast<std::size_t>(size_.rows), rows.past);
    device_offset_ = calls_.make_array(offset_);
    device_start_ = calls_.make_array(start_);
    for (std::uint64_t c = 0; c < num_caches_; ++c) {
      tables_.push_back(table_of(c));
      device_tables_.push_back(calls_.make_array(tables_.back()));
    }
  }

  double seconds_of_attention(double per_run) {
    return calls_.best_seconds(per_run, 0, [this] {
      AttentionArgs args;
      args.batch = batch();
      args.q = column(0);
      args.cache = next_cache();
      args.scale = 0.1F;
      args.out = contiguous_view(out_.data(), num_tokens(), width(), rows_.dtype);
      attention(calls_.context(), args);
    });
  }
  double seconds_of_append(double per_run) {
    return calls_.best_seconds(per_run, 0,
                               [this] { append_kv(calls_.context(), batch(), column(1), column(2), next_cache()); });
  }

  double stored_bytes() const { return static_cast<double>(cache_bytes_); }
  double operations() const {
    return 4.0 * size_.rows * width() * rows_.fresh * (rows_.past + (rows_.fresh + 1) / 2.0);
  }
  double new_elements() const { return 2.0 * num_tokens() * width(); }

 private:
  std::int32_t num_tokens() const { return size_.rows * rows_.fresh; }
  std::int32_t width() const { return size_.heads * size_.head_dim; }
  std::uint64_t activation_bytes() const {
    return static_cast<std::uint64_t>(num_tokens()) * static_cast<std::uint64_t>(width()) * element_bytes(rows_.dtype);
  }
  std::uint64_t position_bytes() const {
    if (rows_.stored.is_none()) return 2 * static_cast<std::uint64_t>(size_.head_dim) * element_bytes(rows_.dtype);
    return static_cast<std::uint64_t>(rows_.stored.head_position_bytes(size_.head_dim));
  }
  AttentionSizes sizes() const {
    return {size_.rows, size_.heads, size_.head_dim, rows_.length(), rows_.dtype, rows_.stored, 1.0F, false};
  }
  BatchView batch() const {
    return {size_.rows,
            num_tokens(),
            rows_.fresh,
            rows_.length(),
            offset_.data(),
            start_.data(),
            reinterpret_cast<const std::int32_t*>(device_offset_.data()),
            reinterpret_cast<const std::int32_t*>(device_start_.data())};
  }
  // Of queries, keys and values side by side.
  MatrixView column(std::int64_t which) const {
    return contiguous_view(qkv_.data(), num_tokens(), 3 * width(), rows_.dtype).col_range(which * width(), width());
  }
  // A row's heads lie one after another, each position of all of them in one piece, as the engine has them.
  std::vector<KvHead> table_of(std::uint64_t cache) const {
    const auto dim = static_cast<std::int64_t>(size_.head_dim);
    const QuantFormat& stored = rows_.stored;
    const std::int64_t code = stored.is_none() ? dim : stored.code_bytes(dim);
    const std::int64_t parameter = stored.is_none() ? 0 : stored.parameter_bytes(dim);
    const std::int64_t unit = stored.is_none() ? static_cast<std::int64_t>(element_bytes(rows_.dtype)) : 1;
    const std::int64_t codes_of_all = code * size_.heads, stride = 2 * (code + parameter) * size_.heads;
    std::vector<KvHead> table;
    for (std::int64_t row = 0; row < size_.rows; ++row)
      for (std::int64_t head = 0; head < size_.heads; ++head) {
        KvHead entry;
        entry.base = cache_.data() + cache * cache_bytes_ + (row * rows_.length() * stride + head * code) * unit;
        entry.position_stride = static_cast<std::int32_t>(stride);
        entry.v_offset = static_cast<std::int32_t>(codes_of_all);
        entry.k_parameters = static_cast<std::int32_t>(2 * codes_of_all + head * (parameter - code));
        entry.v_parameters = static_cast<std::int32_t>(entry.k_parameters + size_.heads * parameter);
        table.push_back(entry);
      }
    return table;
  }
  KvView next_cache() {
    turn_ = (turn_ + 1) % num_caches_;
    return {reinterpret_cast<const KvHead*>(device_tables_[turn_].data()), tables_[turn_].data(), size_.heads,
            size_.head_dim, rows_.stored};
  }

  Rows rows_;
  CallSize size_;
  TimedCalls calls_;
  std::uint64_t cache_bytes_;
  std::uint64_t num_caches_;
  std::uint64_t turn_ = 0;
  Buffer cache_, qkv_, out_;
  std::vector<std::int32_t> offset_, start_;
  Buffer device_offset_, device_start_;
  std::vector<std::vector<KvHead>> tables_;  // by cache
  std::vector<Buffer> device_tables_;
};

double seconds_of_norm(const Device& device, DType dtype, std::int64_t tokens, std::int64_t size, double per_run) {
  TimedCalls calls(device, 0);
  const std::uint64_t bytes = static_cast<std::uint64_t>(tokens * size) * element_bytes(dtype);
  const Buffer x = calls.make_operand(bytes, dtype), out(MemoryKind::device, bytes, device);
  const Buffer affine = calls.make_operand(static_cast<std::uint64_t>(size) * element_bytes(dtype), dtype);
  LayerNormArgs args;
  args.x = contiguous_view(x.data(), tokens, size, dtype);
  args.out = contiguous_view(out.data(), tokens, size, dtype);
  args.gamma = args.beta = contiguous_view(affine.data(), 1, size, dtype);
  return calls.best_seconds(per_run, 0, [&] { layer_norm(calls.context(), args); });
}

}  // namespace

OpRates measure_ops(const Device& device, bool quick, const std::function<void(std::string_view)>& progress) {
  OpRates rates;
  rates.products = measure_products(device, quick, progress);
  progress("attention and norms");
  const double per_run = quick ? 0.01 : 0.03;
  const std::uint64_t spread_bytes = quick ? 16 * MiB : 128 * MiB;
  const std::vector<DType> dtypes =
      device.is_cuda() ? std::vector{DType::float16} : std::vector{DType::float32, DType::float16, DType::bfloat16};
  const std::vector<std::int32_t> lengths = quick ? std::vector{128} : std::vector{32, 128, 512};
  for (const DType dtype : dtypes) {
    for (const std::int32_t bits : {0, 4, 8})
      for (const std::int32_t length : lengths) {
        const QuantFormat stored{bits, 64};
        Attention singles({dtype, stored, length - 1, 1}, device, spread_bytes);
        rates.cache_reads.push_back(
            {dtype, bits, length, singles.stored_bytes() / singles.seconds_of_attention(per_run)});
        Attention prompts({dtype, stored, 0, length}, device, spread_bytes);
        rates.prompts.push_back({dtype, bits, length, prompts.operations() / prompts.seconds_of_attention(per_run),
                                 prompts.new_elements() / prompts.seconds_of_append(per_run)});
      }
    for (const std::int64_t size : quick ? std::vector<std::int64_t>{1024} : std::vector<std::int64_t>{1024, 4096})
      for (const std::int64_t tokens : {8, 128, 1024})
        rates.norms.push_back(
            {dtype, tokens, size,
             static_cast<double>(tokens * size) / seconds_of_norm(device, dtype, tokens, size, per_run)});
  }
  return rates;
}

}  // namespace flexgen

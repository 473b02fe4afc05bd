// Body of host_kernels_*.cpp; each of them compiles it for another instruction set.
#include <type_traits>

#include "ops/host_kernels.hpp"
#include "ops/simd.hpp"

namespace flexgen {
namespace {

template <class Element>
const Element* elements(const std::byte* data) {
  return reinterpret_cast<const Element*>(data);
}

template <class Element>
void widen(const Element* from, float* to, std::int64_t count) {
  std::int64_t i = 0;
  for (; i + kLanes <= count; i += kLanes) store(to + i, load(from + i));
  if (i < count) store_part(to + i, load_part(from + i, count - i), count - i);
}

template <class Element>
void narrow(const float* from, Element* to, std::int64_t count) {
  std::int64_t i = 0;
  for (; i + kLanes <= count; i += kLanes) store(to + i, load(from + i));
  if (i < count) store_part(to + i, load_part(from + i, count - i), count - i);
}

void to_float(const std::byte* from, DType dtype, float* to, std::int64_t count) {
  switch (dtype) {
    case DType::float32: __builtin_memcpy(to, from, static_cast<std::size_t>(count) * 4); return;
    case DType::float16: widen(elements<Half>(from), to, count); return;
    case DType::bfloat16: widen(elements<BFloat16>(from), to, count); return;
  }
}

void from_float(const float* from, std::byte* to, DType dtype, std::int64_t count) {
  switch (dtype) {
    case DType::float32: __builtin_memcpy(to, from, static_cast<std::size_t>(count) * 4); return;
    case DType::float16: narrow(from, reinterpret_cast<Half*>(to), count); return;
    case DType::bfloat16: narrow(from, reinterpret_cast<BFloat16*>(to), count); return;
  }
}

// ---- dots -------------------------------------------------------------------------------------------------------
// Lanes run along k, which is contiguous in both operands: nothing is packed. One sum per output element.

/// `Fetch` cache lines from `next` on are fetched for each line of a row of b.
template <int Rows, int Cols, int Fetch, class Element>
void dot_tile(const DotsArgs& args, const float* a, const Element* b, float* c, const Element* next) {
  // Unrolled throughout, else the sums would live in memory.
  const std::int64_t depth = args.k, a_stride = args.a_stride, b_stride = args.b_stride;
  Floats sum[Rows][Cols];
#pragma GCC unroll 8
  for (int i = 0; i < Rows; ++i) {
#pragma GCC unroll 8
    for (int j = 0; j < Cols; ++j) sum[i][j] = broadcast(0.0F);
  }
  std::int64_t k = 0;
  for (; k + kLanes <= depth; k += kLanes) {
    Floats row[Rows];
#pragma GCC unroll 8
    for (int i = 0; i < Rows; ++i) row[i] = load(a + i * a_stride + k);
#pragma GCC unroll 8
    for (int j = 0; j < Cols; ++j) {
      const Floats col = load(b + j * b_stride + k);
#pragma GCC unroll 8
      for (int i = 0; i < Rows; ++i) sum[i][j] = multiply_add(row[i], col, sum[i][j]);
    }
    if (Fetch > 0 && k % (64 / sizeof(Element)) == 0) {
#pragma GCC unroll 8
      for (int j = 0; j < Fetch; ++j) __builtin_prefetch(next + j * 64 / sizeof(Element), 0, 3);
      next += Fetch * 64 / sizeof(Element);
    }
  }
  if (k < depth) {
    Floats row[Rows];
#pragma GCC unroll 8
    for (int i = 0; i < Rows; ++i) row[i] = load_part(a + i * a_stride + k, depth - k);
#pragma GCC unroll 8
    for (int j = 0; j < Cols; ++j) {
      const Floats col = load_part(b + j * b_stride + k, depth - k);
#pragma GCC unroll 8
      for (int i = 0; i < Rows; ++i) sum[i][j] = multiply_add(row[i], col, sum[i][j]);
    }
  }
  // Four sums at a time, the tile read row by row.
  const std::int64_t c_stride = args.c_stride;
  const bool accumulate = args.accumulate;
  alignas(16) float total[(Rows * Cols + 3) / 4 * 4];
#pragma GCC unroll 8
  for (int first = 0; first < Rows * Cols; first += 4) {
    const auto at = [&](int index) { return index < Rows * Cols ? sum[index / Cols][index % Cols] : broadcast(0.0F); };
    const auto four = lane_sums(at(first), at(first + 1), at(first + 2), at(first + 3));
    __builtin_memcpy(total + first, &four, sizeof four);
  }
#pragma GCC unroll 8
  for (int i = 0; i < Rows; ++i) {
#pragma GCC unroll 8
    for (int j = 0; j < Cols; ++j) {
      float& out = c[i * c_stride + j];
      out = accumulate ? out + total[i * Cols + j] : total[i * Cols + j];
    }
  }
}

/// Rows `first` and after, as far as a tile reaches.
template <int Cols, int Fetch, class Element>
void dot_rows(const DotsArgs& args, std::int64_t first, const Element* b, float* c, const Element* next) {
  const float* a = args.a + first * args.a_stride;
  c += first * args.c_stride;
  switch (args.m - first < kTileRows ? args.m - first : kTileRows) {
    case 1: dot_tile<1, Cols, Fetch>(args, a, b, c, next); break;
    case 2: dot_tile<2, Cols, Fetch>(args, a, b, c, next); break;
    case 3: dot_tile<3, Cols, Fetch>(args, a, b, c, next); break;
    default: dot_tile<kTileRows, Cols, Fetch>(args, a, b, c, next); break;
  }
}

template <int Cols, bool Fetch, class Element>
void dot_panel(const DotsArgs& args, const Element* b, float* c, const Element* next) {
  std::int64_t i = 0;
  if (Fetch && args.m <= kTileRows) return dot_rows<Cols, Cols>(args, 0, b, c, next);
  if (Fetch) {  // the first two tiles share the work
    constexpr int half = (Cols + 1) / 2;
    dot_rows<Cols, half>(args, 0, b, c, next);
    dot_rows<Cols, Cols - half>(args, kTileRows, b, c, next + half * args.k);
    i = 2 * kTileRows;
  }
  for (; i < args.m; i += kTileRows) dot_rows<Cols, 0>(args, i, b, c, next);
}

template <bool Fetch, class Element>
void dots_of(const DotsArgs& args) {
  const Element* b = elements<Element>(args.b);
  const auto panel = [&]<int Cols>(std::int64_t j, std::integral_constant<int, Cols>) {
    const Element* next = Fetch ? elements<Element>(args.next) + j * args.k : nullptr;
    dot_panel<Cols, Fetch>(args, b + j * args.b_stride, args.c + j, next);
  };
  std::int64_t j = 0;
  for (; j + kTileCols <= args.n; j += kTileCols) panel(j, std::integral_constant<int, kTileCols>{});
  for (; j + 2 <= args.n; j += 2) panel(j, std::integral_constant<int, 2>{});
  if (j < args.n) panel(j, std::integral_constant<int, 1>{});
}

template <class Element>
void dots_of(const DotsArgs& args) {
  args.next != nullptr ? dots_of<true, Element>(args) : dots_of<false, Element>(args);
}

void dots(const DotsArgs& args) {
  switch (args.b_dtype) {
    case DType::float32: dots_of<float>(args); return;
    case DType::float16: dots_of<Half>(args); return;
    case DType::bfloat16: dots_of<BFloat16>(args); return;
  }
}

// ---- weighted sum of rows -----------------------------------------------------------------------------------------

template <int Rows, int Vectors, class Element>
void weighted_tile(const WeightedSumArgs& args, std::int64_t first_row, std::int64_t first_col, const Element* v) {
  Floats sum[Rows][Vectors];
  const float* weight = args.weight + first_row * args.weight_stride;
  float* out = args.out + first_row * args.out_stride + first_col;
  for (int i = 0; i < Rows; ++i)
    for (int j = 0; j < Vectors; ++j)
      sum[i][j] = load(out + i * args.out_stride + j * kLanes) * broadcast(args.rescale[first_row + i]);
  v += first_col;
  for (std::int64_t k = 0; k < args.k; ++k, v += args.v_stride) {
    Floats value[Vectors];
#pragma GCC unroll 8
    for (int j = 0; j < Vectors; ++j) value[j] = load(v + j * kLanes);
#pragma GCC unroll 8
    for (int i = 0; i < Rows; ++i) {
      const Floats factor = broadcast(weight[i * args.weight_stride + k]);
#pragma GCC unroll 8
      for (int j = 0; j < Vectors; ++j) sum[i][j] = multiply_add(factor, value[j], sum[i][j]);
    }
  }
  for (int i = 0; i < Rows; ++i)
    for (int j = 0; j < Vectors; ++j) store(out + i * args.out_stride + j * kLanes, sum[i][j]);
}

template <class Element>
void weighted_rest(const WeightedSumArgs& args, std::int64_t first_col, const Element* v) {
  const std::int64_t count = args.n - first_col;  // < kLanes
  for (std::int64_t i = 0; i < args.m; ++i) {
    float* out = args.out + i * args.out_stride + first_col;
    Floats sum = load_part(out, count) * broadcast(args.rescale[i]);
    for (std::int64_t k = 0; k < args.k; ++k)
      sum = multiply_add(broadcast(args.weight[i * args.weight_stride + k]),
                         load_part(v + k * args.v_stride + first_col, count), sum);
    store_part(out, sum, count);
  }
}

template <class Element>
void weighted_sum_of(const WeightedSumArgs& args) {
  const Element* v = elements<Element>(args.v);
  std::int64_t col = 0;
  for (; col + 4 * kLanes <= args.n; col += 4 * kLanes) {
    std::int64_t i = 0;
    for (; i + kTileRows <= args.m; i += kTileRows) weighted_tile<kTileRows, 4>(args, i, col, v);
    for (; i < args.m; ++i) weighted_tile<1, 4>(args, i, col, v);
  }
  for (; col + kLanes <= args.n; col += kLanes) {
    std::int64_t i = 0;
    for (; i + kTileRows <= args.m; i += kTileRows) weighted_tile<kTileRows, 1>(args, i, col, v);
    for (; i < args.m; ++i) weighted_tile<1, 1>(args, i, col, v);
  }
  if (col < args.n) weighted_rest(args, col, v);
}

void weighted_sum(const WeightedSumArgs& args) {
  switch (args.v_dtype) {
    case DType::float32: weighted_sum_of<float>(args); return;
    case DType::float16: weighted_sum_of<Half>(args); return;
    case DType::bfloat16: weighted_sum_of<BFloat16>(args); return;
  }
}

// ---- rows -----------------------------------------------------------------------------------------------------------

float softmax_step(float* score, std::int64_t count, float scale, SoftmaxState* state) {
  const float minus_infinity = -__builtin_inff();
  const std::int64_t padded = (count + kLanes - 1) / kLanes * kLanes;
  for (std::int64_t j = count; j < padded; ++j) score[j] = minus_infinity;
  Floats largest = broadcast(minus_infinity);
  for (std::int64_t j = 0; j < padded; j += kLanes) {
    const Floats scaled =
        j + kLanes <= count ? load(score + j) * broadcast(scale) : load_part(score + j, count - j) * broadcast(scale);
    if (j + kLanes <= count) store(score + j, scaled);
    else store_part(score + j, scaled, count - j);
    largest = larger(load(score + j), largest);
  }
  const float block_maximum = lane_max(largest);
  const float maximum = block_maximum > state->maximum ? block_maximum : state->maximum;
  // Before anything finite was seen, all weights are zero: subtract 0 rather than -inf - -inf = NaN.
  const float shift = maximum == minus_infinity ? 0.0F : maximum;
  Floats sum = broadcast(0.0F);
  for (std::int64_t j = 0; j < padded; j += kLanes) {
    const Floats weight = exponential(load(score + j) - broadcast(shift));
    store(score + j, weight);
    sum = sum + weight;
  }
  const float shrink = exponential(broadcast(state->maximum - shift))[0];
  state->sum = state->sum * shrink + lane_sum(sum);
  state->maximum = maximum;
  return shrink;
}

void normalize(const float* x, std::int64_t count, const float* gamma, const float* beta, float epsilon, float* out) {
  const std::int64_t whole = count / kLanes * kLanes;
  Floats sum = broadcast(0.0F);
  for (std::int64_t i = 0; i < whole; i += kLanes) sum = sum + load(x + i);
  float total = lane_sum(sum);
  for (std::int64_t i = whole; i < count; ++i) total += x[i];
  const float mean = total / static_cast<float>(count);
  Floats squares = broadcast(0.0F);
  for (std::int64_t i = 0; i < whole; i += kLanes) {
    const Floats centred = load(x + i) - broadcast(mean);
    squares = multiply_add(centred, centred, squares);
  }
  float square_total = lane_sum(squares);
  for (std::int64_t i = whole; i < count; ++i) square_total += (x[i] - mean) * (x[i] - mean);
  const float factor = 1.0F / __builtin_sqrtf(square_total / static_cast<float>(count) + epsilon);
  for (std::int64_t i = 0; i < count; ++i) {
    float value = (x[i] - mean) * factor;
    if (gamma != nullptr) value *= gamma[i];
    if (beta != nullptr) value += beta[i];
    out[i] = value;
  }
}

void add(const float* x, const float* y, float* out, std::int64_t count) {
  for (std::int64_t i = 0; i < count; ++i) out[i] = x[i] + y[i];
}

std::int64_t argmax(const float* x, std::int64_t count) {
  if (count == 0) return -1;
  Floats largest = broadcast(x[0]);
  Ints is_nan = {};
  std::int64_t i = 0;
  for (; i + kLanes <= count; i += kLanes) {
    const Floats value = load(x + i);
    is_nan |= value != value;
    largest = larger(value, largest);
  }
  float maximum = lane_max(largest);
  bool found_nan = false;
  for (int lane = 0; lane < kLanes; ++lane) found_nan |= is_nan[lane] != 0;
  for (; i < count; ++i) {
    found_nan |= x[i] != x[i];
    maximum = x[i] > maximum ? x[i] : maximum;
  }
  if (found_nan) return -1;
  std::int64_t index = 0;
  while (x[index] != maximum) ++index;
  return index;
}

void random(float* to, std::int64_t count, float scale, std::uint64_t seed, std::uint64_t first_index) {
  // SplitMix64's output function over a counter (Steele, Lea, Flood 2014).
  for (std::int64_t i = 0; i < count; ++i) {
    std::uint64_t z = seed + (first_index + static_cast<std::uint64_t>(i) + 1) * 0x9E3779B97F4A7C15ULL;
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9ULL;
    z = (z ^ (z >> 27)) * 0x94D049BB133111EBULL;
    z ^= z >> 31;
    const std::int32_t signed_24 = static_cast<std::int32_t>(z >> 40) - (1 << 23);
    to[i] = static_cast<float>(signed_24) * 0x1p-23F * scale;
  }
}

}  // namespace

const HostKernels FLEXGEN_KERNEL_SET = {
    FLEXGEN_KERNEL_SET_NAME,
    kTileCols,
    to_float,
    from_float,
    dots,
    weighted_sum,
    softmax_step,
    normalize,
    add,
    argmax,
    random,
};

}  // namespace flexgen

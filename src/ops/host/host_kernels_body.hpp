// Body of host_kernels_*.cpp; each of them compiles it for another instruction set.
#include <type_traits>

#include "ops/host/host_kernels.hpp"
#include "ops/host/simd.hpp"

namespace flexgen {
namespace {

typedef std::int32_t Ints4 __attribute__((vector_size(16)));

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

// float64 is met in checkpoints alone; the copies make no demand on alignment.
void float_from_double(const std::byte* from, float* to, std::int64_t count) {
  for (std::int64_t i = 0; i < count; ++i) {
    double value;
    __builtin_memcpy(&value, from + i * 8, 8);
    to[i] = static_cast<float>(value);
  }
}

void double_from_float(const float* from, std::byte* to, std::int64_t count) {
  for (std::int64_t i = 0; i < count; ++i) {
    const double value = from[i];
    __builtin_memcpy(to + i * 8, &value, 8);
  }
}

void to_float(const std::byte* from, DType dtype, float* to, std::int64_t count) {
  switch (dtype) {
    case DType::float32: __builtin_memcpy(to, from, static_cast<std::size_t>(count) * 4); return;
    case DType::float16: widen(elements<Half>(from), to, count); return;
    case DType::bfloat16: widen(elements<BFloat16>(from), to, count); return;
    case DType::float64: float_from_double(from, to, count); return;
  }
}

void from_float(const float* from, std::byte* to, DType dtype, std::int64_t count) {
  switch (dtype) {
    case DType::float32: __builtin_memcpy(to, from, static_cast<std::size_t>(count) * 4); return;
    case DType::float16: narrow(from, reinterpret_cast<Half*>(to), count); return;
    case DType::bfloat16: narrow(from, reinterpret_cast<BFloat16*>(to), count); return;
    case DType::float64: double_from_float(from, to, count); return;
  }
}

// ---- dots -------------------------------------------------------------------------------------------------------
// Lanes run along k, which is contiguous in both operands: nothing is packed. One sum per output element.

/// The last two of four, in front.
template <class Four>
FLEXGEN_ALWAYS_INLINE Four second_half(const Four& four) {
  return __builtin_shuffle(four, Ints4{2, 3, 2, 3});
}

/// out[0 .. Count) (+)= sums
template <int Count, class Four>
FLEXGEN_ALWAYS_INLINE void put_sums(float* out, const Four& sums, bool accumulate) {
  float total[4];
  __builtin_memcpy(total, &sums, sizeof total);
#pragma GCC unroll 8
  for (int j = 0; j < Count; ++j) out[j] = accumulate ? out[j] + total[j] : total[j];
}

enum class Fetch { nothing, panel, piece };

template <int Rows, int Cols, Fetch fetch, class A, class B>
void dot_tile(const DotsArgs& args, const A* a, const B* b, float* c, const B* next) {
  // Unrolled throughout, else the sums would live in memory.
  using Pack = Operand<kMultipliesBFloat16 && std::is_same_v<A, BFloat16>>;
  constexpr std::int64_t kLine = 64 / sizeof(B);
  const std::int64_t depth = args.k, a_stride = args.a_stride, b_stride = args.b_stride;
  Floats sum[Rows][Cols];
#pragma GCC unroll 8
  for (int i = 0; i < Rows; ++i) {
#pragma GCC unroll 8
    for (int j = 0; j < Cols; ++j) sum[i][j] = broadcast(0.0F);
  }
  std::int64_t k = 0;
  for (; k + Pack::kElements <= depth; k += Pack::kElements) {
    decltype(Pack::whole(b)) col[Cols];
#pragma GCC unroll 8
    for (int j = 0; j < Cols; ++j) {
      col[j] = Pack::whole(b + j * b_stride + k);
      if (fetch != Fetch::nothing && k % kLine == 0)
        __builtin_prefetch(next + (fetch == Fetch::piece ? k * Cols + j * kLine : j * b_stride + k), 0, 3);
    }
#pragma GCC unroll 8
    for (int i = 0; i < Rows; ++i) {
      const auto row = Pack::whole(a + i * a_stride + k);
#pragma GCC unroll 8
      for (int j = 0; j < Cols; ++j) sum[i][j] = multiply_add(row, col[j], sum[i][j]);
    }
  }
  if (k < depth) {
#pragma GCC unroll 8
    for (int i = 0; i < Rows; ++i) {
      const auto row = Pack::part(a + i * a_stride + k, depth - k);
#pragma GCC unroll 8
      for (int j = 0; j < Cols; ++j)
        sum[i][j] = multiply_add(row, Pack::part(b + j * b_stride + k, depth - k), sum[i][j]);
    }
  }
  if constexpr (Cols <= 4) {
#pragma GCC unroll 8
    for (int i = 0; i < Rows; ++i) {
      const auto at = [&](int j) { return j < Cols ? sum[i][j] : broadcast(0.0F); };
      put_sums<Cols>(c + i * args.c_stride, lane_sums(at(0), at(1), at(2), at(3)), args.accumulate);
    }
  } else {  // two columns of two rows at a time: none of the sums stays empty
    static_assert(Cols == 6);
#pragma GCC unroll 8
    for (int i = 0; i < Rows; i += 2) {
      const int k = i + 1 < Rows ? i + 1 : i;
#pragma GCC unroll 8
      for (int j = 0; j < Cols; j += 2) {
        const auto four = lane_sums(sum[i][j], sum[i][j + 1], sum[k][j], sum[k][j + 1]);
        put_sums<2>(c + i * args.c_stride + j, four, args.accumulate);
        if (k > i) put_sums<2>(c + k * args.c_stride + j, second_half(four), args.accumulate);
      }
    }
  }
}

/// Rows i .. and columns j .., as far as a tile reaches.
template <int MaxRows, int Cols, Fetch fetch, class A, class B>
void dot_rows(const DotsArgs& args, std::int64_t i, std::int64_t j) {
  if constexpr (MaxRows > 1) {
    if (args.m - i < MaxRows) return dot_rows<MaxRows - 1, Cols, fetch, A, B>(args, i, j);
  }
  const B* next = fetch == Fetch::nothing ? nullptr : elements<B>(args.next);
  dot_tile<MaxRows, Cols, fetch>(args, static_cast<const A*>(args.a) + i * args.a_stride,
                                 elements<B>(args.b) + j * args.b_stride, args.c + i * args.c_stride + j, next);
}

/// The first tile of rows, as a rule all of them, fetches.
template <int MaxRows, int Cols, Fetch fetch, class A, class B>
void dot_panel(const DotsArgs& args, std::int64_t j) {
  dot_rows<MaxRows, Cols, fetch, A, B>(args, 0, j);
  for (std::int64_t i = MaxRows; i < args.m; i += MaxRows) dot_rows<MaxRows, Cols, Fetch::nothing, A, B>(args, i, j);
}

template <int MaxRows, int Cols, Fetch fetch, class A, class B>
void dot_panels(const DotsArgs& args) {
  std::int64_t j = 0;
  if (j + Cols <= args.n) dot_panel<MaxRows, Cols, fetch, A, B>(args, j), j += Cols;
  for (; j + Cols <= args.n; j += Cols) dot_panel<MaxRows, Cols, Fetch::nothing, A, B>(args, j);
  for (; j + 2 <= args.n; j += 2) dot_panel<MaxRows, 2, Fetch::nothing, A, B>(args, j);
  if (j < args.n) dot_panel<MaxRows, 1, Fetch::nothing, A, B>(args, j);
}

template <class A, class B>
void dots_of(const DotsArgs& args) {
  if (args.next == nullptr) dot_panels<kTileRows, kTileCols, Fetch::nothing, A, B>(args);
  else if (args.m > kStreamFewRows) dot_panels<kStreamRows, kStreamCols, Fetch::panel, A, B>(args);
  else if (args.next_in_one_piece) dot_panels<kStreamFewRows, kStreamFewCols, Fetch::piece, A, B>(args);
  else dot_panels<kStreamFewRows, kStreamFewCols, Fetch::panel, A, B>(args);
}

std::int64_t stream_panel_rows(std::int64_t m) { return m <= kStreamFewRows ? kStreamFewCols : kStreamCols; }

void dots(const DotsArgs& args) {
  if (args.m == 0) return;
  if constexpr (kMultipliesBFloat16) {
    if (args.a_dtype == DType::bfloat16) return dots_of<BFloat16, BFloat16>(args);
  }
  switch (args.b_dtype) {
    case DType::float32: dots_of<float, float>(args); return;
    case DType::float16: dots_of<float, Half>(args); return;
    case DType::bfloat16: dots_of<float, BFloat16>(args); return;
    case DType::float64: return;  // never an operand
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
    case DType::float64: return;  // never an operand
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
  const float block_largest = lane_max(largest);
  const float new_largest = block_largest > state->largest ? block_largest : state->largest;
  // Before anything finite was seen, all weights are zero: subtract 0 rather than -inf - -inf = NaN.
  const float shift = new_largest == minus_infinity ? 0.0F : new_largest;
  Floats sum = broadcast(0.0F);
  for (std::int64_t j = 0; j < padded; j += kLanes) {
    const Floats weight = exponential(load(score + j) - broadcast(shift));
    store(score + j, weight);
    sum = sum + weight;
  }
  const auto shrink = [&](float from, float) { return exponential(broadcast(from - shift))[0]; };
  const float factor = raise_largest(*state, new_largest, shrink);
  state->weight += lane_sum(sum);
  return factor;
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
    stream_panel_rows,
    kMultipliesBFloat16,
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

// What a lane of the sparse kernel (sparse.cu) holds of a head: some elements of q, and of the keys or
// the values of several positions, plain or compressed.
#pragma once

#include "ops/cuda/attention/decode.cuh"
#include "ops/cuda/compressed_elements.cuh"

namespace flexgen {

struct SparseParams : DecodeParams {
  float sparsity;
  DType dtype;  // of q and out
};

/// Elements of q and out, whose type the kernel learns at run time.
__device__ inline float read_element(const std::byte* from, DType dtype, std::int64_t index) {
  if (dtype == DType::float16) return to_float(reinterpret_cast<const __half*>(from)[index]);
  if (dtype == DType::bfloat16) return to_float(reinterpret_cast<const __nv_bfloat16*>(from)[index]);
  return reinterpret_cast<const float*>(from)[index];
}

__device__ inline void write_element(std::byte* to, DType dtype, std::int64_t index, float value) {
  if (dtype == DType::float16) {
    reinterpret_cast<__half*>(to)[index] = from_float<__half>(value);
  } else if (dtype == DType::bfloat16) {
    reinterpret_cast<__nv_bfloat16*>(to)[index] = from_float<__nv_bfloat16>(value);
  } else {
    reinterpret_cast<float*>(to)[index] = value;
  }
}

/// One lane's part of q.
template <int kVector>
struct QueryPart {
  float element[kVector];
  float sum = 0.0F;

  __device__ explicit QueryPart(const float* q) {
#pragma unroll
    for (int v = 0; v < kVector / 4; ++v) {
      const float4 four = reinterpret_cast<const float4*>(q)[v];
      element[4 * v] = four.x, element[4 * v + 1] = four.y, element[4 * v + 2] = four.z, element[4 * v + 3] = four.w;
    }
#pragma unroll
    for (int i = 0; i < kVector; ++i) sum += element[i];
  }
};

/// One lane's part of the keys or the values of a head: at most kVector elements of every position, which count from
/// `first`.
template <typename T, int kGroupLanes>
struct PlainPart {
  static constexpr int kLanes = kGroupLanes;
  static constexpr int kVector = kVectorElements<T>;
  static constexpr int kInFlight = 6;  // as many as fit in the registers of kBlocks blocks
  using Piece = uint4;

  const std::byte* at;   // of the first position in sight
  std::uint32_t stride;  // bytes
  int left;              // elements from the first one of this lane on

  static __device__ bool vectors_fit(const SparseParams& p, const KvHead& head) {
    const auto offsets = static_cast<std::uint32_t>(head.position_stride) | static_cast<std::uint32_t>(head.v_offset);
    return p.head_dim % kVector == 0 && (reinterpret_cast<std::uintptr_t>(head.base) | offsets * sizeof(T)) % 16 == 0;
  }
  __device__ PlainPart(const SparseParams& p, const CacheSpan& span, int first, CachePart part, int dim)
      : at(span.at(part, first, sizeof(T)) + dim * sizeof(T)),
        stride(static_cast<std::uint32_t>(span.position_bytes(sizeof(T)))),
        left(p.head_dim - dim) {}

  template <bool kVectors>
  __device__ Piece load(int position) const {
    const std::byte* from = at + static_cast<std::uint64_t>(static_cast<std::uint32_t>(position)) * stride;
    if constexpr (kVectors) {
      return __ldg(reinterpret_cast<const uint4*>(from));
    } else {
      float element[kVector];
#pragma unroll
      for (int i = 0; i < kVector; ++i) element[i] = i < left ? to_float(reinterpret_cast<const T*>(from)[i]) : 0.0F;
      return pack<T>(element);
    }
  }
  static __device__ float dot(const QueryPart<kVector>& q, const Piece& piece) {
    float element[kVector];
    unpack<T>(piece, element);
    float score = 0.0F;
#pragma unroll
    for (int i = 0; i < kVector; ++i) score = fmaf(q.element[i], element[i], score);
    return score;
  }
  static __device__ void add(float share, const Piece& piece, float (&sum)[kVector]) {
    float element[kVector];
    unpack<T>(piece, element);
#pragma unroll
    for (int i = 0; i < kVector; ++i) sum[i] = fmaf(share, element[i], sum[i]);
  }
};

/// The same of a compressed cache. Groups are 32 elements at least: a lane's have one scale and one minimum.
template <int kBits, int kGroupLanes>
struct CompressedPart {
  static constexpr int kLanes = kGroupLanes;
  static constexpr int kVector = 16;
  static constexpr int kInFlight = 4;
  static constexpr int kWords = kVector / kWordCodes<kBits>;
  struct Piece {
    std::uint32_t word[kWords];
    std::uint32_t line;
  };

  const std::byte* codes;  // of the first position in sight
  const std::byte* parameters;
  std::uint32_t stride;
  int left;

  static __device__ bool vectors_fit(const SparseParams& p, const KvHead& head) {
    const auto offsets = static_cast<std::uint32_t>(head.position_stride) | static_cast<std::uint32_t>(head.v_offset);
    return p.head_dim % kVector == 0 && (reinterpret_cast<std::uintptr_t>(head.base) | offsets) % (4 * kWords) == 0;
  }
  __device__ CompressedPart(const SparseParams& p, const CacheSpan& span, int first, CachePart part, int dim)
      : codes(span.at(part, first, 1) + dim * kBits / 8),
        parameters(span.parameters(part, first) + (dim >> p.group_shift) * 4),
        stride(static_cast<std::uint32_t>(span.position_bytes(1))),
        left(p.head_dim - dim) {}

  template <bool kVectors>
  __device__ Piece load(int position) const {
    const std::uint64_t at = static_cast<std::uint64_t>(static_cast<std::uint32_t>(position)) * stride;
    Piece piece = {};
    if constexpr (!kVectors) {
#pragma unroll
      for (int w = 0; w < kWords; ++w) {
        if (w * kWordCodes<kBits> < left) piece.word[w] = reinterpret_cast<const std::uint32_t*>(codes + at)[w];
      }
    } else if constexpr (kWords == 2) {
      const uint2 words = __ldg(reinterpret_cast<const uint2*>(codes + at));
      piece.word[0] = words.x, piece.word[1] = words.y;
    } else {
      const uint4 words = __ldg(reinterpret_cast<const uint4*>(codes + at));
      piece.word[0] = words.x, piece.word[1] = words.y, piece.word[2] = words.z, piece.word[3] = words.w;
    }
    piece.line = __ldg(reinterpret_cast<const std::uint32_t*>(parameters + at));
    return piece;
  }
  static __device__ void unpack_piece(const Piece& piece, float (&code)[kVector]) {
    constexpr int kPairs = kWordCodes<kBits> / 2;
#pragma unroll
    for (int w = 0; w < kWords; ++w) {
      std::uint32_t pair[kPairs];
      unpack_codes<kBits, false>(piece.word[w], pair);
#pragma unroll
      for (int i = 0; i < kPairs; ++i) {
        const float2 two = __half22float2(half2_of(pair[i]));
        code[(w * kPairs + i) * 2] = two.x, code[(w * kPairs + i) * 2 + 1] = two.y;
      }
    }
  }
  static __device__ float dot(const QueryPart<kVector>& q, const Piece& piece) {
    float code[kVector];
    unpack_piece(piece, code);
    float product = 0.0F;
#pragma unroll
    for (int i = 0; i < kVector; ++i) product = fmaf(q.element[i], code[i], product);
    const float2 line = scale_and_minimum(piece.line);
    return fmaf(line.x, product, line.y * q.sum);
  }
  static __device__ void add(float share, const Piece& piece, float (&sum)[kVector]) {
    float code[kVector];
    unpack_piece(piece, code);
    const float2 line = scale_and_minimum(piece.line);
#pragma unroll
    for (int i = 0; i < kVector; ++i) sum[i] = fmaf(share, fmaf(code[i], line.x, line.y), sum[i]);
  }
};

/// Elements of a head that a group of lanes holds at a time.
template <typename Part>
inline constexpr int kWidth = Part::kLanes* Part::kVector;

}  // namespace flexgen

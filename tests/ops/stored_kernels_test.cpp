// The inner loops on stored keys and values, of every instruction set that the processor runs, against float64.
#include "ops/host/stored/stored_kernels.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <functional>
#include <string>
#include <vector>

#include "ops/quantize.hpp"
#include "ops/quantize_rows.hpp"
#include "tests/support/device_fixture.hpp"

namespace flexgen::test {
namespace {

const QuantFormat kFormats[] = {{4, 32}, {4, 64}, {4, 128}, {8, 32}, {8, 64}, {8, 128}};

struct Stored {
  DType dtype;
  QuantFormat quant;
};

/// Positions of heads with gaps between everything; element() is what is stored.
class StoredRun {
 public:
  StoredRun(const Stored& stored, std::int64_t heads, std::int64_t dim, std::int64_t positions, bool gaps,
            const std::function<float(std::int64_t p, std::int64_t d)>& factor = nullptr)
      : dim_(dim) {
    const bool plain = stored.quant.is_none();
    const std::int64_t head_bytes =
        plain ? dim * static_cast<std::int64_t>(element_bytes(stored.dtype)) : stored.quant.code_bytes(dim);
    const std::int64_t parameter_bytes = plain ? 0 : stored.quant.parameter_bytes(dim);
    shape = {stored.dtype, stored.quant, dim, heads, head_bytes + (gaps ? 8 : 0), parameter_bytes + (gaps ? 4 : 0), 0};
    shape.position_stride = heads * (shape.head_stride + shape.parameter_stride) + (gaps ? 12 : 0);
    memory_.assign(static_cast<std::size_t>(shape.position_stride * positions), std::byte{0xFF});
    place = {memory_.data(), plain ? nullptr : memory_.data() + heads * shape.head_stride};
    for (std::int64_t p = 0; p < positions; ++p)
      for (std::int64_t h = 0; h < heads; ++h) {
        HostMatrix values = HostMatrix::random(1, dim, plain ? stored.dtype : DType::float32,
                                               static_cast<std::uint32_t>(p * heads + h), 0, 2.0F);
        for (std::int64_t d = 0; factor && d < dim; ++d) values.set(0, d, values.at(0, d) * factor(p, d));
        std::byte* to = memory_.data() + p * shape.position_stride + h * shape.head_stride;
        if (plain) std::copy(values.bytes().begin(), values.bytes().end(), to);
        else
          quantize_run_reference(
              values.bytes().data(), DType::float32, 0, dim, stored.quant, 1, to,
              memory_.data() + heads * shape.head_stride + p * shape.position_stride + h * shape.parameter_stride);
      }
  }
  double element(std::int64_t p, std::int64_t h, std::int64_t d) const {
    const std::int64_t at = p * shape.position_stride;
    if (shape.quant.is_none()) return load_element(place.data + at + h * shape.head_stride, shape.dtype, d);
    return stored_element(place.data + at + h * shape.head_stride, place.parameters + at + h * shape.parameter_stride,
                          shape.quant, d);
  }
  StoredHeads shape;
  StoredPlace place;

 private:
  std::int64_t dim_;
  std::vector<std::byte> memory_;
};

/// What the kernels make of a run: for every head, the scores of all positions, the weighted sum of all values, and
/// that of every third one. weight: [heads, 64].
struct Outcome {
  std::vector<float> score, sums, chosen;
};

Outcome outcome_of(const StoredKernels& kernels, const StoredHeads& shape, const StoredPlace& first,
                   std::int64_t positions, const HostMatrix& q, const HostMatrix& weight) {
  const std::int64_t heads = shape.num_heads, dim = shape.head_dim;
  const std::int64_t arranged = kernels.arranged_floats(shape);
  const auto* q_data = reinterpret_cast<const float*>(q.bytes().data());
  const auto* weight_data = reinterpret_cast<const float*>(weight.bytes().data());
  const auto count = static_cast<std::size_t>(heads * dim);
  Outcome made{std::vector<float>(static_cast<std::size_t>(heads * 64), NAN), std::vector<float>(count, NAN),
               std::vector<float>(count, NAN)};
  std::vector<float> queries(static_cast<std::size_t>(heads * arranged), NAN);
  std::vector<float> sums(queries.size(), 0.0F), chosen(queries.size(), 0.0F);
  std::vector<float> scratch(static_cast<std::size_t>(kernels.scratch_floats(shape)), NAN);
  for (std::int64_t h = 0; h < heads; ++h)
    kernels.arrange_query(shape, q_data + h * dim, queries.data() + h * arranged);
  kernels.scores(shape, first, {}, positions, queries.data(), made.score.data(), 64, scratch.data());
  kernels.add_values(shape, first, first, positions, weight_data, 64, sums.data(), scratch.data());
  StoredHeads one = shape;
  one.num_heads = 1;
  std::vector<std::int32_t> every_third;
  for (std::int64_t p = 0; p < positions; p += 3) every_third.push_back(static_cast<std::int32_t>(p));
  for (std::int64_t h = 0; h < heads; ++h) {
    StoredPlace place = first;
    place.data += h * shape.head_stride;
    if (place.parameters != nullptr) place.parameters += h * shape.parameter_stride;
    kernels.add_chosen_values(one, place, every_third.data(), static_cast<std::int64_t>(every_third.size()),
                              weight_data + h * 64, chosen.data() + h * arranged, scratch.data());
    kernels.collect_sums(shape, sums.data() + h * arranged, made.sums.data() + h * dim);
    kernels.collect_sums(shape, chosen.data() + h * arranged, made.chosen.data() + h * dim);
  }
  return made;
}

/// Differences from float64, relative to the largest of the head's row and at least `least`, are up to `most`.
void expect_close(const float* actual, const std::vector<double>& expected, double least, double most) {
  double largest = least;
  for (const double value : expected) largest = std::max(largest, std::fabs(value));
  for (std::size_t i = 0; i < expected.size(); ++i) ASSERT_NEAR(actual[i], expected[i], most * largest) << i;
}

/// Sums of float32; or, where the set and the form are those of kernels_avx512_vnni.cpp, of queries that are
/// rounded to 22 bits and weights that are rounded to 16.
struct Precision {
  double scores = 4e-6, sums = 4e-6;
};
Precision precision_of(const StoredKernels& kernels, const StoredHeads& shape) {
  const bool bytes = std::strcmp(kernels.name, "avx512_vnni") == 0 && shape.quant == QuantFormat{4, 64} &&
                     shape.dtype != DType::float32 && (shape.head_dim == 64 || shape.head_dim == 128);
  return bytes ? Precision{4e-6, 1e-4} : Precision{};
}

void check_outcome(const StoredKernels& kernels, const StoredRun& run, std::int64_t positions, const HostMatrix& q,
                   const HostMatrix& weight, double least, double times) {
  SCOPED_TRACE(std::string(kernels.name) + " " + std::string(dtype_name(run.shape.dtype)) + " bits " +
               std::to_string(run.shape.quant.bits) + " group " + std::to_string(run.shape.quant.group) + " dim " +
               std::to_string(run.shape.head_dim) + " positions " + std::to_string(positions));
  const std::int64_t heads = run.shape.num_heads, dim = run.shape.head_dim;
  const Precision precision = precision_of(kernels, run.shape);
  const Outcome made = outcome_of(kernels, run.shape, run.place, positions, q, weight);
  for (std::int64_t h = 0; h < heads; ++h) {
    std::vector<double> score(static_cast<std::size_t>(positions)), sums(static_cast<std::size_t>(dim)), chosen = sums;
    for (std::int64_t p = 0; p < positions; ++p)
      for (std::int64_t d = 0; d < dim; ++d) {
        const double value = run.element(p, h, d);
        score[static_cast<std::size_t>(p)] += q.at(h, d) * value;
        sums[static_cast<std::size_t>(d)] += weight.at(h, p) * value;
        if (p % 3 == 0) chosen[static_cast<std::size_t>(d)] += weight.at(h, p / 3) * value;
      }
    expect_close(made.score.data() + h * 64, score, least, times * precision.scores);
    expect_close(made.sums.data() + h * dim, sums, least, times * precision.sums);
    expect_close(made.chosen.data() + h * dim, chosen, least, times * precision.sums);
    for (std::int64_t p = positions; p < 64; ++p)
      ASSERT_TRUE(std::isnan(made.score[static_cast<std::size_t>(h * 64 + p)]));
  }
}

void check_kernels(const StoredKernels& kernels, const Stored& stored, std::int64_t heads, std::int64_t dim,
                   std::int64_t positions, bool gaps) {
  const StoredRun run(stored, heads, dim, positions, gaps);
  const HostMatrix q = HostMatrix::random(heads, dim, DType::float32, 91);
  const HostMatrix weight = HostMatrix::random(heads, 64, DType::float32, 92);
  check_outcome(kernels, run, positions, q, weight, 4.0, 1.0);
}

template <class Body>
void for_each_set(const Body& body) {
  for (const StoredKernels* const* set = supported_stored_kernels(); *set != nullptr; ++set) body(**set);
}

TEST(StoredKernels, EveryInstructionSet) {
  std::vector<Stored> all = {
      {DType::float32, {}}, {DType::float16, {}}, {DType::bfloat16, {}}, {DType::float32, {4, 64}}};
  for (const QuantFormat& quant : kFormats) all.push_back({DType::float16, quant});
  for_each_set([&](const StoredKernels& kernels) {
    for (const Stored& stored : all) {
      for (const std::int64_t dim : {1, 7, 12, 16, 20, 32, 64, 72, 80, 128, 136, 192})
        for (const std::int64_t positions : {1, 5, 64}) check_kernels(kernels, stored, 3, dim, positions, false);
      for (const std::int64_t dim : {12, 64, 128}) check_kernels(kernels, stored, 3, dim, 6, true);
      for (const std::int64_t dim : {12, 64, 128}) check_kernels(kernels, stored, 1, dim, 7, false);
    }
  });
}

/// Every number of positions and of heads around those that are computed together.
TEST(StoredKernels, RestsOfPositionsAndHeads) {
  const Stored stored{DType::float16, {4, 64}};
  for_each_set([&](const StoredKernels& kernels) {
    for (const std::int64_t dim : {64, 128}) {
      for (std::int64_t positions = 1; positions <= 17; ++positions)
        check_kernels(kernels, stored, 2, dim, positions, positions % 2 == 0);
      for (std::int64_t heads = 1; heads <= 18; ++heads)
        for (const bool gaps : {false, true}) check_kernels(kernels, stored, heads, dim, 5, gaps);
    }
  });
}

TEST(StoredKernels, QueriesAndWeightsOfAllSizes) {
  const std::int64_t heads = 6, positions = 64;
  const auto of_size = [](double exponent) { return static_cast<float>(std::pow(10.0, exponent)); };
  for (const std::int64_t dim : {64, 128}) {
    HostMatrix q = HostMatrix::random(heads, dim, DType::float32, 7);
    HostMatrix weight = HostMatrix::random(heads, 64, DType::float32, 8);
    for (std::int64_t d = 0; d < dim; ++d) {
      if (d != dim - 3) q.set(0, d, q.at(0, d) * 1e-3F);       // one element far above the others
      q.set(1, d, q.at(1, d) * of_size(d < 64 ? 3.0 : -3.0));  // groups of other sizes
      q.set(2, d, q.at(2, d) * of_size(static_cast<double>(d % 13) - 9.0));
      q.set(3, d, 0.0F);
      q.set(4, d, q.at(4, d) * 1e-20F);
      q.set(5, d, d % 2 == 0 ? 65504.0F : -65504.0F);
    }
    for (std::int64_t p = 0; p < 64; ++p) {
      for (std::int64_t h = 0; h < heads; ++h) weight.set(h, p, std::fabs(weight.at(h, p)));
      if (p != 21) weight.set(0, p, weight.at(0, p) * 1e-3F);                      // one position far above the others
      weight.set(1, p, weight.at(1, p) * of_size(-static_cast<double>(p) / 2.0));  // down to 1e-32
      weight.set(2, p, p % 8 < 4 ? 0.0F : weight.at(2, p));
      weight.set(3, p, 0.0F);
      weight.set(4, p, p % 2 == 0 ? 1.0F : 0.0051F);  // not much more than a byte resolves
      weight.set(5, p, 1.0F);
    }
    // Positions and groups of other sizes, too.
    const auto factor = [&](std::int64_t p, std::int64_t d) {
      return of_size(static_cast<double>(p % 5 + d / 64) - 3.0);
    };
    const StoredRun even({DType::float16, {4, 64}}, heads, dim, positions, false);
    const StoredRun uneven({DType::float16, {4, 64}}, heads, dim, positions, false, factor);
    for_each_set([&](const StoredKernels& kernels) {
      for (const StoredRun* run : {&even, &uneven}) check_outcome(kernels, *run, positions, q, weight, 1e-30, 4.0);
    });
  }
}

/// A head by itself, and between others.
TEST(StoredKernels, SameBitsWhateverIsBeside) {
  const std::int64_t heads = 11, positions = 45;
  for (const QuantFormat& quant : {QuantFormat{4, 64}, QuantFormat{8, 64}, QuantFormat{4, 32}})
    for (const std::int64_t dim : {64, 80, 128})
      for (const bool gaps : {false, true}) {
        const StoredRun run({DType::float16, quant}, heads, dim, positions, gaps);
        const HostMatrix q = HostMatrix::random(heads, dim, DType::float32, 5);
        const HostMatrix weight = HostMatrix::random(heads, 64, DType::float32, 6);
        for_each_set([&](const StoredKernels& kernels) {
          const Outcome all = outcome_of(kernels, run.shape, run.place, positions, q, weight);
          for (std::int64_t first = 0; first < heads; ++first) {
            const std::int64_t count = std::min<std::int64_t>(1 + first % 3, heads - first);
            StoredHeads shape = run.shape;
            shape.num_heads = count;
            const StoredPlace place = {run.place.data + first * shape.head_stride,
                                       run.place.parameters + first * shape.parameter_stride};
            HostMatrix own_q(count, dim, DType::float32), own_weight(count, 64, DType::float32);
            for (std::int64_t h = 0; h < count; ++h) {
              for (std::int64_t d = 0; d < dim; ++d) own_q.set(h, d, q.at(first + h, d));
              for (std::int64_t p = 0; p < 64; ++p) own_weight.set(h, p, weight.at(first + h, p));
            }
            const Outcome some = outcome_of(kernels, shape, place, positions, own_q, own_weight);
            const auto same = [&](const std::vector<float>& a, const std::vector<float>& b, std::int64_t width) {
              return std::memcmp(a.data(), b.data() + first * width, static_cast<std::size_t>(count * width) * 4) == 0;
            };
            ASSERT_TRUE(same(some.score, all.score, 64) && same(some.sums, all.sums, dim) &&
                        same(some.chosen, all.chosen, dim))
                << kernels.name << " dim " << dim << " head " << first;
          }
        });
      }
}

/// What is no number in one head, or one position, reaches all that it should and nothing else.
TEST(StoredKernels, NotANumber) {
  const std::int64_t heads = 3, positions = 11;
  for (const std::int64_t dim : {64, 128}) {
    const StoredRun run({DType::float16, {4, 64}}, heads, dim, positions, false);
    const auto with_nan = [](HostMatrix matrix, std::int64_t row, std::int64_t col) {
      matrix.set(row, col, NAN);
      return matrix;
    };
    const HostMatrix q = with_nan(HostMatrix::random(heads, dim, DType::float32, 3), 1, 5);
    const HostMatrix weight = with_nan(HostMatrix::random(heads, 64, DType::float32, 4), 2, 3);
    const StoredRun bad({DType::float16, {4, 64}}, heads, dim, positions, false,
                        [](std::int64_t p, std::int64_t d) { return p == 9 && d == 1 ? NAN : 1.0F; });
    for_each_set([&](const StoredKernels& kernels) {
      const Outcome made = outcome_of(kernels, run.shape, run.place, positions, q, weight);
      for (std::int64_t h = 0; h < heads; ++h) {
        for (std::int64_t p = 0; p < positions; ++p)
          ASSERT_EQ(std::isnan(made.score[static_cast<std::size_t>(h * 64 + p)]), h == 1) << kernels.name << p;
        for (std::int64_t d = 0; d < dim; ++d)
          ASSERT_EQ(std::isnan(made.sums[static_cast<std::size_t>(h * dim + d)]), h == 2) << kernels.name << d;
      }
      const Outcome worse = outcome_of(kernels, bad.shape, bad.place, positions, q, weight);
      for (std::int64_t h = 0; h < heads; ++h)
        for (std::int64_t d = 0; d < 64; ++d)
          ASSERT_TRUE(std::isnan(worse.sums[static_cast<std::size_t>(h * dim + d)])) << kernels.name << d;
    });
  }
}

}  // namespace
}  // namespace flexgen::test

// Each lane alone: what it brings to a computation, and what it waits for before it overwrites.
#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <chrono>
#include <cstring>
#include <memory>
#include <thread>

#include "base/error.hpp"
#include "engine/cache_lane.hpp"
#include "engine/hidden_lane.hpp"
#include "engine/weight_lane.hpp"
#include "tests/engine/lane_fixture.hpp"

namespace flexgen::test {
namespace {

Policy policy_of(const std::array<double, 6>& percent, bool overlap) {
  Policy policy;
  policy.micro_batch_size = 2;
  policy.num_micro_batches = 2;
  policy.placement = make_placement(percent);
  policy.overlap = overlap;
  return policy;
}

JobShape small_job() {
  JobShape job;
  job.max_prompt_tokens = 6;
  job.max_new_tokens = 4;
  job.max_row_tokens = 9;
  job.num_rows = 4;
  return job;
}

// Two micro-batches of two rows, each with `count` tokens from `start` on.
SweepWork work_of(std::int32_t start, std::int32_t count) {
  SweepWork work;
  for (std::int32_t k = 0; k < 2; ++k) {
    MicroBatchWork& batch = work.micro_batches.emplace_back();
    batch.slot = k;
    for (std::int32_t r = 0; r < 2; ++r)
      batch.rows.push_back({.row = RowId(2 * k + r),
                            .cache_row = r,
                            .cache_begin = r * 16,  // small_job's longest row, in whole grains
                            .start = start,
                            .tokens = std::vector<std::int32_t>(static_cast<std::size_t>(count), 5)});
  }
  return work;
}

// Long enough for a task that does not wait to have done its work.
void give_time() { std::this_thread::sleep_for(std::chrono::milliseconds(30)); }

class LanesTest : public ::testing::TestWithParam<std::tuple<std::array<double, 6>, bool>> {
 protected:
  LaneParts parts_{policy_of(std::get<0>(GetParam()), std::get<1>(GetParam())), small_job()};
};

bool same_bits(const MatrixView& a, const MatrixView& b) {
  return a.size_bytes() == b.size_bytes() && std::equal(a.data, a.data + a.size_bytes(), b.data);  // null where empty
}

TEST_P(LanesTest, WeightsAreThoseOfAResidentSlice) {
  LaneParts resident(policy_of({100, 0, 100, 0, 100, 0}, false), small_job());
  WeightLane expected(resident.plan, *resident.memory, resident.around);
  expected.fill();
  WeightLane lane(parts_.plan, *parts_.memory, parts_.around);
  lane.fill();
  const auto num_layers = static_cast<std::int32_t>(parts_.layers.size());
  lane.load(LayerId(0));
  for (std::int32_t j = 0; j < num_layers; ++j) {
    if (j + 1 < num_layers) lane.load(LayerId(j + 1));
    lane.take_input(LayerId(j), parts_.compute);
    expected.take_input(LayerId(j), resident.compute);
    ASSERT_EQ(lane.stored().size(), parts_.layers[static_cast<std::size_t>(j)]->description().weights.size());
    for (std::size_t w = 0; w < lane.stored().size(); ++w) {
      const MatrixView& whole = expected.stored()[w];
      const MatrixView& first = lane.stored()[w];  // of a table that is cut, the first rows
      EXPECT_TRUE(same_bits(first, whole.row_range(0, first.rows))) << "layer " << j << " weight " << w;
      if (first.rows == whole.rows) continue;
      EXPECT_TRUE(same_bits(lane.rests()[w], whole.row_range(first.rows, whole.rows - first.rows)));
    }
    if (StagingSlot* slot = lane.slot(LayerId(j))) slot->free = parts_.compute.record();
  }
  lane.synchronize();
}

TEST_P(LanesTest, HiddenStatesOfALayerAreWhatTheNextFinds) {
  Neighbours neighbours(nullptr, parts_.memory->tiers, 0);
  OutputLane output(parts_.plan, parts_.layers, *parts_.memory, Device{}, {});
  HiddenLane lane(parts_.plan, *parts_.memory, neighbours, output, parts_.around);
  const std::vector<MicroBatch>& batches = parts_.prepare(work_of(0, 6));
  const auto bytes = static_cast<std::size_t>(batches[0].num_tokens * parts_.model.hidden) * sizeof(float);
  std::vector<std::byte> wanted(bytes);
  const auto pattern = [&](std::int32_t layer, std::int32_t k) {
    for (std::size_t i = 0; i < bytes; ++i)
      wanted[i] = static_cast<std::byte>(i * 31 + static_cast<std::size_t>(7 * layer + 101 * k));
  };
  for (std::int32_t j = 0; j < 4; ++j)
    for (std::int32_t k = 0; k < 2; ++k) {
      const MicroBatchId id(k);
      lane.load(LayerId(j), id, batches[id.index()]);
      const LaneInput& input = lane.take_input();
      parts_.compute.wait(input.ready);
      if (j > 0) {
        pattern(j - 1, k);
        EXPECT_EQ(std::memcmp(input.data, wanted.data(), bytes), 0) << "layer " << j << " micro-batch " << k;
      }
      pattern(j, k);
      std::memcpy(input.data, wanted.data(), bytes);
      lane.store(LayerId(j), id, batches[id.index()], parts_.compute.record());
    }
  lane.synchronize();
}

// Positions of a cache as attention finds them: written once, read in every later sweep.
class Positions {
 public:
  Positions(const KvView& view, std::int32_t layer) : view_(view), layer_(layer) {}
  void write(std::int32_t row, std::int32_t position) const { visit(row, position, true); }
  bool holds(std::int32_t row, std::int32_t position) const { return visit(row, position, false); }

 private:
  bool visit(std::int32_t row, std::int32_t position, bool write) const {
    bool same = true;
    for (std::int32_t h = 0; h < view_.num_heads; ++h) {
      const KvHead& head = view_.heads[row * view_.num_heads + h];
      auto* const key =
          reinterpret_cast<float*>(head.base) + static_cast<std::ptrdiff_t>(position) * head.position_stride;
      for (float* const at : {key, key + head.v_offset})
        for (std::int32_t i = 0; i < view_.head_dim; ++i) {
          const auto value =
              static_cast<float>((((layer_ * 2 + row) * 16 + position) * 4 + h) * 64 + i + (at == key ? 0 : 32));
          if (write) at[i] = value;
          else same = same && at[i] == value;
        }
    }
    return same;
  }
  KvView view_;
  std::int32_t layer_;
};

TEST_P(LanesTest, TheCacheKeepsEveryPosition) {
  CacheLane lane(parts_.plan, *parts_.memory, *parts_.calls, parts_.around);
  for (std::int32_t sweep = 0; sweep < 3; ++sweep) {
    const std::int32_t start = sweep == 0 ? 0 : 5 + sweep, count = sweep == 0 ? 6 : 1;
    const SweepWork work = work_of(start, count);
    const std::vector<MicroBatch>& batches = parts_.prepare(work);
    lane.begin_sweep(work);
    for (std::size_t j = 0; j < parts_.layers.size(); ++j)
      for (const MicroBatch& batch : batches) {
        const LayerId layer(static_cast<std::int32_t>(j));
        lane.load(layer, batch);
        parts_.compute.wait(lane.take_input(layer, batch).ready);
        const KvView view = lane.view(layer, batch, parts_.compute);
        EXPECT_EQ(view.heads != nullptr, lane.has(layer));
        if (!lane.has(layer)) continue;
        const Positions positions(view, 2 * lane.index(layer) + batch.slot);
        for (std::int32_t r = 0; r < 2; ++r) {
          for (std::int32_t p = 0; p < start; ++p)
            EXPECT_TRUE(positions.holds(r, p)) << "sweep " << sweep << " layer " << j << " row " << r << " at " << p;
          for (std::int32_t p = start; p < start + count; ++p) positions.write(r, p);
        }
        lane.store(layer, batch, parts_.compute.record());
      }
    lane.load_next_sweeps();
  }
  lane.synchronize();
}

INSTANTIATE_TEST_SUITE_P(Placements, LanesTest,
                         ::testing::Combine(::testing::Values(std::array<double, 6>{100, 0, 100, 0, 100, 0},
                                                              std::array<double, 6>{0, 100, 0, 100, 0, 100},
                                                              std::array<double, 6>{20, 30, 30, 40, 40, 30}),
                                            ::testing::Bool()));

// With overlap a lane runs ahead of the computation, but not over what it is still at.
TEST(Lanes, WeightsAreNotOverwrittenBeforeTheirSlotIsFree) {
  LaneParts parts(policy_of({0, 100, 100, 0, 100, 0}, true), small_job());
  WeightLane lane(parts.plan, *parts.memory, parts.around);
  lane.fill();
  lane.load(LayerId(1));
  lane.load(LayerId(2));
  lane.take_input(LayerId(1), parts.compute);
  const MatrixView used = lane.stored()[0];
  const std::vector<std::byte> before(used.data, used.data + used.size_bytes());
  HeldStream computation;
  lane.slot(LayerId(1))->free = computation.record();
  lane.load(LayerId(3));
  ASSERT_EQ(lane.slot(LayerId(3)), lane.slot(LayerId(1))) << "slots are taken in turn";
  give_time();
  EXPECT_FALSE(lane.slot(LayerId(3))->loaded->complete());
  EXPECT_EQ(std::memcmp(used.data, before.data(), before.size()), 0);
  computation.let_go();
  lane.take_input(LayerId(3), parts.compute);
  EXPECT_NE(std::memcmp(used.data, before.data(), before.size()), 0);
  lane.synchronize();
}

TEST(Lanes, StoresWaitForTheComputationAndLoadsForTheStores) {
  LaneParts parts(policy_of({100, 0, 0, 100, 0, 100}, true), small_job());
  CacheLane cache(parts.plan, *parts.memory, *parts.calls, parts.around);
  Neighbours neighbours(nullptr, parts.memory->tiers, 0);
  OutputLane output(parts.plan, parts.layers, *parts.memory, Device{}, {});
  HiddenLane hidden(parts.plan, *parts.memory, neighbours, output, parts.around);
  const SweepWork work = work_of(0, 6);
  const MicroBatch& batch = parts.prepare(work)[0];
  const LayerId layer(1);  // the first with a cache
  cache.begin_sweep(work);
  cache.load(layer, batch);
  hidden.load(layer, MicroBatchId(0), batch);
  StagingSlot* const cache_slot = cache.take_input(layer, batch).slot;
  StagingSlot* const hidden_slot = hidden.take_input().slot;
  ASSERT_TRUE(cache_slot && hidden_slot);
  HeldStream computation;
  const EventPtr computed = computation.record();
  cache.store(layer, batch, computed);
  hidden.store(layer, MicroBatchId(0), batch, computed);
  give_time();
  EXPECT_FALSE(cache_slot->free->complete());
  EXPECT_FALSE(hidden_slot->free->complete());
  EXPECT_EQ(cache.stored(layer, batch.slot), cache_slot->free);
  // Loads of the same, to other slots, come after the stores.
  cache.load(layer, batch);
  hidden.load(LayerId(2), MicroBatchId(0), batch);
  const EventPtr cache_loaded = cache.take_input(layer, batch).ready, hidden_loaded = hidden.take_input().ready;
  give_time();
  EXPECT_FALSE(cache_loaded->complete());
  EXPECT_FALSE(hidden_loaded->complete());
  computation.let_go();
  cache.synchronize();
  hidden.synchronize();
  EXPECT_TRUE(cache_slot->free->complete());
  EXPECT_TRUE(hidden_slot->free->complete());
}

// Tokens have a place for each micro-batch, logits that are kept one for all.
TEST(Lanes, OutputsAreNotOverwrittenBeforeTheyAreAway) {
  for (const bool keep_logits : {false, true}) {
    LaneParts parts(policy_of({100, 0, 100, 0, 100, 0}, true), small_job());
    Neighbours neighbours(nullptr, parts.memory->tiers, 0);
    OutputSinks sinks{[](const SampledTokens&) {}, {}};
    if (keep_logits) sinks.logits = [](std::int64_t, MicroBatchId, std::span<const float>) {};
    OutputLane output(parts.plan, parts.layers, *parts.memory, Device{}, sinks);
    HiddenLane lane(parts.plan, *parts.memory, neighbours, output, parts.around);
    const MicroBatch& batch = parts.prepare(work_of(0, 6))[0];
    const LayerId last(static_cast<std::int32_t>(parts.layers.size()) - 1);
    lane.load(last, MicroBatchId(0), batch);
    lane.take_input();
    HeldStream computation;
    lane.store(last, MicroBatchId(0), batch, computation.record());
    std::array<EventPtr, 2> may_compute;
    std::array<std::unique_ptr<Stream>, 2> next;
    for (std::int32_t k = 0; k < 2; ++k) {
      const auto index = static_cast<std::size_t>(k);
      next[index] = std::make_unique<Stream>("next", Stream::Mode::threaded, Device{});
      lane.await_output_places(MicroBatchId(k), *next[index]);
      may_compute[index] = next[index]->record();
    }
    give_time();
    EXPECT_FALSE(may_compute[0]->complete());
    EXPECT_EQ(may_compute[1]->complete(), !keep_logits);
    computation.let_go();
    for (const auto& stream : next) stream->synchronize();
    lane.synchronize();
  }
}

TEST(Lanes, AStreamFinishesWhatWasPosted) {
  Tracer tracer(true);
  const Surroundings around{Device{}, Backend::native, tracer, {}};
  std::vector<std::byte> from(1000, std::byte{7}), to(1000);
  HeldStream held;
  std::thread later;
  {
    TransferStream stream("test", Stream::Mode::threaded, around, {});
    stream.wait(held.record());
    stream.post([&](Transfer& transfer) { transfer.within_gpu(to.data(), from.data(), from.size(), "late"); });
    later = std::thread([&] {
      give_time();
      held.let_go();
    });
  }
  EXPECT_EQ(to, from);
  later.join();
}

TEST(Lanes, ErrorsOfAStreamAreTold) {
  Tracer tracer;
  std::atomic<int> told = 0;
  const Surroundings around{Device{}, Backend::native, tracer, [&](const std::exception_ptr&) { ++told; }};
  TransferStream stream("test", Stream::Mode::threaded, around, {});
  stream.post([](Transfer&) { throw InternalError("bad"); });
  EXPECT_THROW(stream.synchronize(), InternalError);
  EXPECT_EQ(told, 1);
}

}  // namespace
}  // namespace flexgen::test

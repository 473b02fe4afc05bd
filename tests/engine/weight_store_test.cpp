// Wherever weights lie, a layer must see the same ones: every placement gives the images of the all-gpu one.
#include "engine/weight_store.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstring>

#include "base/error.hpp"
#include "model/layer.hpp"
#include "model/read_spec.hpp"
#include "tests/support/faulty_weight_source.hpp"
#include "tests/support/planned_tiers.hpp"
#include "tests/support/scratch_place.hpp"
#include "tests/support/tiny_model.hpp"
#include "weights/checkpoint/checkpoint.hpp"

namespace flexgen::test {
namespace {

using Image = std::vector<std::byte>;

class StoreUnderTest {
 public:
  StoreUnderTest(const std::vector<LayerDescription>& layers, std::shared_ptr<WeightSource> source, DType dtype,
                 const Share& share, bool reads_dram = false, const ImageThreads& threads = {})
      : layout_(plan_weights(layers, dtype, share, {}, reads_dram)),
        tiers_(home_of(layout_)),
        store_(layers, layout_, std::move(source), {dtype, true, threads}, tiers_.memory()),
        transfer_(stream_, host_staging(store_.uses_disk())),
        slots_{Image(layout_.slot_bytes), Image(layout_.slot_bytes)} {
    store_.fill(nullptr);
  }

  /// All weights of a layer, one image per weight, as a computation sees them.
  std::vector<Image> layer(LayerId id) {
    Image& slot = slots_[id.index() % 2];
    std::fill(slot.begin(), slot.end(), std::byte{0xCD});
    if (store_.has_load(id)) store_.load(id, slot.data(), transfer_);
    if (store_.has_gpu_part(id)) store_.load_gpu_part(id, slot.data(), transfer_);
    std::vector<Image> images;
    for (const MatrixView& view : store_.views(id, slot.data()))
      images.emplace_back(view.data, view.data + view.size_bytes());
    const std::vector<MatrixView> rests = store_.rests(id);
    for (std::size_t w = 0; w < rests.size(); ++w)
      images[w].insert(images[w].end(), rests[w].data, rests[w].data + rests[w].size_bytes());
    return images;
  }

  const WeightLayout& layout() const { return layout_; }
  const WeightStore& store() const { return store_; }

 private:
  WeightLayout layout_;
  PlannedTiers tiers_;
  WeightStore store_;
  Stream stream_{"test", Stream::Mode::inline_tasks, Device{}};
  Transfer transfer_;
  std::array<Image, 2> slots_;
};

std::vector<LayerDescription> layers_of(const ModelSpec& spec, const SliceBounds& bounds, bool separate) {
  return describe(make_layers(spec, bounds, separate));
}

const Share shares[] = {{0, 100}, {0, 0}, {50, 50}, {20, 30}, {0, 50}, {33, 0}, {97, 1}};

void expect_same_layers(const std::vector<LayerDescription>& layers, StoreUnderTest& expected, StoreUnderTest& actual,
                        const Share& share) {
  for (int round = 0; round < 2; ++round)  // loading leaves the homes as they are
    for (std::size_t j = 0; j < layers.size(); ++j) {
      const LayerId id(static_cast<std::int32_t>(j));
      EXPECT_EQ(actual.layer(id), expected.layer(id))
          << layers[j].name << " at " << share.gpu_percent << " " << share.dram_percent << ", round " << round;
    }
}

TEST(WeightStore, GivesEveryLayerTheSameWeightsFromEverywhere) {
  ModelSpec spec = tiny_model(2);
  for (const bool tied : {true, false})
    for (const DType dtype : {DType::float32, DType::bfloat16}) {
      spec.head.tied = tied;
      const auto layers = layers_of(spec, {0, 2, true, true}, dtype == DType::float32);
      StoreUnderTest all_gpu(layers, make_random_source(), dtype, {100, 0});
      for (std::size_t j = 0; j < layers.size(); ++j)
        EXPECT_FALSE(all_gpu.store().has_load(LayerId(static_cast<std::int32_t>(j))));
      for (const Share& share : shares) {
        StoreUnderTest store(layers, make_random_source(), dtype, share);
        expect_same_layers(layers, all_gpu, store, share);
        const auto total = static_cast<double>(store.layout().total_bytes());
        EXPECT_NEAR(static_cast<double>(store.layout().gpu_bytes) / total, share.gpu(), 0.02);
        EXPECT_NEAR(static_cast<double>(store.layout().ssd_bytes) / total, share.ssd(), 0.02);
      }
    }
}

TEST(WeightStore, TablesThatAreLookedUpAreNeverLoaded) {
  ModelSpec spec = tiny_model(2);
  for (const bool tied : {true, false}) {
    spec.head.tied = tied;
    const auto layers = layers_of(spec, {0, 2, true, true}, true);
    StoreUnderTest all_gpu(layers, make_random_source(), DType::float32, {100, 0});
    for (const Share& share : {Share{0, 100}, Share{20, 80}, Share{50, 50}, Share{93, 7}, Share{99, 1}}) {
      StoreUnderTest store(layers, make_random_source(), DType::float32, share, true);
      EXPECT_FALSE(store.store().has_load(LayerId(0)));
      EXPECT_TRUE(store.store().has_load(LayerId(static_cast<std::int32_t>(layers.size()) - 1)) || share.gpu() > 0.9);
      expect_same_layers(layers, all_gpu, store, share);
    }
    StoreUnderTest on_ssd(layers, make_random_source(), DType::float32, {0, 50}, true);
    EXPECT_TRUE(on_ssd.store().has_load(LayerId(0))) << "rows on ssd are not to be looked up";
    expect_same_layers(layers, all_gpu, on_ssd, {0, 50});
  }
}

TEST(WeightStore, KeepsATiedHeadOnce) {
  const ModelSpec spec = tiny_model(1);
  const auto layers = layers_of(spec, {0, 1, true, true}, true);
  StoreUnderTest store(layers, make_random_source(), DType::float32, {0, 100});
  EXPECT_EQ(store.layer(LayerId(0)).front(), store.layer(LayerId(static_cast<std::int32_t>(layers.size()) - 1)).back());
  ModelSpec untied = spec;
  untied.head.tied = false;
  const WeightLayout twice = plan_weights(layers_of(untied, {0, 1, true, true}, true), DType::float32, {0, 100});
  EXPECT_GE(twice.total_bytes(), store.layout().total_bytes() + 131U * 36 * 4);
}

// The demo model is stored in float16 and its sizes leave no gaps: what lies on ssd is read from the user's file.
class CheckpointOnSsd : public ::testing::Test {
 protected:
  const std::string folder_ = FLEXGEN_SOURCE_DIR "/configs/demo-model";
  const ModelSpec spec_ = read_model_spec(folder_);
  const std::vector<LayerDescription> layers_ = layers_of(spec_, {3, 1, false, false}, true);
  const Checkpoint checkpoint_ = Checkpoint::open(folder_);
  std::shared_ptr<WeightSource> source() const { return make_checkpoint_source(checkpoint_); }
};

TEST_F(CheckpointOnSsd, IsReadInPlaceWithoutScratch) {
  ASSERT_EQ(spec_.stored_dtype, DType::float16);
  StoreUnderTest all_gpu(layers_, source(), DType::float16, {100, 0});
  for (const Share& share : shares) {
    StoreUnderTest store(layers_, source(), DType::float16, share);
    EXPECT_EQ(store.store().scratch_bytes(), 0U);
    expect_same_layers(layers_, all_gpu, store, share);
  }
}

TEST_F(CheckpointOnSsd, IsCopiedToScratchInAnotherDtype) {
  StoreUnderTest all_gpu(layers_, source(), DType::float32, {100, 0});
  StoreUnderTest store(layers_, source(), DType::float32, {20, 30});
  EXPECT_GE(store.store().scratch_bytes(), store.layout().ssd_bytes);
  expect_same_layers(layers_, all_gpu, store, {20, 30});
}

TEST_F(CheckpointOnSsd, InPlaceAndScratchHoldTheSame) {
  // The same source, but denying that anything lies in a file.
  class Denying final : public WatchedWeightSource {
   public:
    using WatchedWeightSource::WatchedWeightSource;
    bool in_place(const WeightSpec&, std::int64_t, std::int64_t, DType, std::vector<FileExtent>&) const override {
      return false;
    }
  };
  StoreUnderTest in_place(layers_, source(), DType::float16, {0, 0});
  StoreUnderTest scratch(layers_, std::make_shared<Denying>(source()), DType::float16, {0, 0});
  EXPECT_EQ(in_place.store().scratch_bytes(), 0U);
  EXPECT_GT(scratch.store().scratch_bytes(), 0U);
  expect_same_layers(layers_, in_place, scratch, {0, 0});
}

TEST_F(CheckpointOnSsd, OfTheWrongShapeIsRefusedBeforeAnythingIsRead) {
  ModelSpec larger = spec_;
  larger.mlp.width *= 2;
  const auto layers = layers_of(larger, {0, 1, false, false}, true);
  EXPECT_THROW(StoreUnderTest(layers, source(), DType::float32, {100, 0}), UserError);
  larger = spec_;
  larger.num_layers = 99;
  EXPECT_THROW(StoreUnderTest(layers_of(larger, {98, 1, false, false}, true), source(), DType::float32, {0, 0}),
               UserError);
}

TEST(WeightStore, PassesOnTheErrorOfItsSource) {
  const auto layers = layers_of(tiny_model(1), {0, 1, true, true}, true);
  for (const int call : {0, 3}) {
    const auto source = std::make_shared<FaultyWeightSource>(make_random_source(), call);
    EXPECT_THROW(StoreUnderTest(layers, source, DType::float32, {20, 30}), UserError);
  }
}

}  // namespace
}  // namespace flexgen::test

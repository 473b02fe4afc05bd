#include "policy/weight_layout.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <map>
#include <random>

#include "tests/policy/plan_cases.hpp"

namespace flexgen::test {
namespace {

using test::layers_of;
using test::model_of;

Share share_of(double gpu_percent, double dram_percent) {
  return make_placement({gpu_percent, dram_percent, 0, 0, 0, 0}).weights;
}

std::vector<Share> many_shares() {
  std::vector<Share> shares;
  for (const double gpu : {0.0, 1.0, 7.5, 20.0, 33.3, 50.0, 99.0, 100.0})
    for (const double part : {0.0, 0.1, 0.5, 0.9, 1.0}) shares.push_back(share_of(gpu, (100 - gpu) * part));
  return shares;
}

// A table that is looked up where it lies is cut between two rows, whatever the grain.
bool is_between_rows(const std::vector<WeightSpec>& weights, const LayerWeights& layer, std::uint64_t edge) {
  for (std::size_t w = 0; w < weights.size(); ++w) {
    const WeightPlace& place = layer.places[w];
    if (place.looked_up && edge >= place.offset && edge < place.offset + place.bytes)
      return (edge - place.offset) % (place.bytes / static_cast<std::uint64_t>(weights[w].rows)) == 0;
  }
  return false;
}

// Every invariant that a weight store builds on.
void check_layout(const std::vector<LayerDescription>& layers, DType dtype, const WeightLayout& layout) {
  ASSERT_EQ(layout.packs.size(), layers.size());
  ASSERT_EQ(layout.layers.size(), layers.size());
  std::uint64_t gpu = 0, dram = 0, ssd = 0, largest_slot = 0;
  for (std::size_t p = 0; p < layers.size(); ++p) {
    const WeightPack& pack = layout.packs[p];
    ASSERT_LE(pack.gpu_bytes + pack.dram_bytes, pack.bytes);
    for (const std::uint64_t edge : {pack.gpu_bytes, pack.gpu_bytes + pack.dram_bytes})
      ASSERT_TRUE(edge == pack.bytes || is_between_rows(layers[p].weights, layout.layers[p], edge) ||
                  edge % (pack.bytes >= 256 * split_alignment ? split_alignment : weight_alignment) == 0)
          << edge << " of " << pack.bytes;
    gpu += pack.gpu_bytes;
    dram += pack.dram_bytes;
    ssd += pack.ssd_bytes();
  }
  ASSERT_EQ(gpu, layout.gpu_bytes);
  ASSERT_EQ(dram, layout.dram_bytes);
  ASSERT_EQ(ssd, layout.ssd_bytes);

  std::map<std::int32_t, std::map<std::uint64_t, std::uint64_t>> owned;  // pack -> offset -> bytes
  for (std::size_t j = 0; j < layers.size(); ++j) {
    const LayerWeights& layer = layout.layers[j];
    ASSERT_EQ(layer.places.size(), layers[j].weights.size());
    std::map<std::int32_t, std::uint64_t> lowest, highest;  // of the weights that are not resident, by pack
    for (std::size_t w = 0; w < layer.places.size(); ++w) {
      const WeightPlace& place = layer.places[w];
      ASSERT_LE(place.pack, static_cast<std::int32_t>(j)) << "a shared weight lives in the first layer that names it";
      const WeightPack& pack = layout.packs[static_cast<std::size_t>(place.pack)];
      ASSERT_EQ(place.bytes, static_cast<std::uint64_t>(layers[j].weights[w].num_elements()) * element_bytes(dtype));
      ASSERT_EQ(place.offset % weight_alignment, 0U);
      ASSERT_LE(place.offset + place.bytes, pack.bytes);
      owned[place.pack][place.offset] = place.bytes;
      ASSERT_EQ(place.resident, place.offset + place.bytes <= pack.gpu_bytes) << "a straddling weight is loaded whole";
      if (place.looked_up) {
        ASSERT_TRUE(pack.gpu_bytes <= place.offset || pack.gpu_bytes >= place.offset + place.bytes ||
                    is_between_rows(layers[j].weights, layer, pack.gpu_bytes));
        ASSERT_EQ(pack.ssd_bytes(), 0U);
        ASSERT_EQ(layers[j].kind, LayerKind::embedding) << "a tied head multiplies by the whole table";
      }
      if (place.resident || place.looked_up) continue;
      ASSERT_EQ(place.slot_offset % weight_alignment, 0U);
      lowest.try_emplace(place.pack, place.offset);
      lowest[place.pack] = std::min(lowest[place.pack], place.offset);
      highest[place.pack] = std::max(highest[place.pack], place.offset + place.bytes);
    }
    // One image per pack that is needed, exactly from the first weight needed (rounded down) to the last.
    ASSERT_EQ(layer.loads.size(), lowest.size());
    std::uint64_t slot_end = 0;
    for (const PackRange& image : layer.loads) {
      ASSERT_TRUE(lowest.contains(image.pack));
      ASSERT_EQ(image.begin, align_down(lowest[image.pack], split_alignment));
      ASSERT_EQ(image.end, highest[image.pack]);
      ASSERT_EQ(image.slot_offset % split_alignment, 0U);
      ASSERT_GE(image.slot_offset, slot_end) << "images overlap in the slot";
      slot_end = image.slot_offset + image.end - image.begin;
      for (const WeightPlace& place : layer.places)
        if (!place.resident && !place.looked_up && place.pack == image.pack) {
          ASSERT_EQ(place.slot_offset, image.slot_offset + place.offset - image.begin);
        }
    }
    ASSERT_GE(layer.slot_bytes, slot_end);
    ASSERT_LT(layer.slot_bytes - slot_end, split_alignment);
    largest_slot = std::max(largest_slot, layer.slot_bytes);
  }
  ASSERT_EQ(layout.slot_bytes, largest_slot);
  for (const auto& [pack, weights] : owned) {
    std::uint64_t end = 0;
    for (const auto& [offset, bytes] : weights) {
      ASSERT_GE(offset, end) << "weights overlap in pack " << pack;
      ASSERT_LT(offset - end, weight_alignment) << "a hole in pack " << pack;
      end = offset + bytes;
    }
    ASSERT_EQ(end, layout.packs[static_cast<std::size_t>(pack)].bytes);
  }
}

TEST(WeightLayout, InvariantsHoldForManySharesOfEveryShape) {
  for (const char* name : {"demo-model", "opt-125m", "opt-350m", "opt-1.3b", "opt-6.7b", "opt-30b"})
    for (const bool separate : {true, false}) {
      const std::vector<LayerDescription> layers = layers_of(model_of(name), separate);
      for (const DType dtype : {DType::float16, DType::float32})
        for (const Share& share : many_shares()) {
          SCOPED_TRACE(std::string(name) + " " + std::to_string(share.gpu_percent) + " " +
                       std::to_string(share.dram_percent));
          for (const bool reads_dram : {false, true}) {
            check_layout(layers, dtype, plan_weights(layers, dtype, share, {}, reads_dram));
            if (HasFatalFailure()) return;
          }
        }
    }
}

TEST(WeightLayout, TablesAreLookedUpWhereTheDeviceCanReadThem) {
  for (const char* name : {"opt-350m", "opt-6.7b"}) {
    const std::vector<LayerDescription> layers = layers_of(model_of(name));
    for (const Share& share : {share_of(0, 100), share_of(20, 80), share_of(90, 10)}) {
      const WeightLayout layout = plan_weights(layers, DType::float16, share, {}, true);
      const bool has_projection = layers.front().weights.size() > 2;
      for (std::size_t w = 0; w < layers.front().weights.size(); ++w)
        EXPECT_EQ(layout.layers.front().places[w].looked_up, w < 2) << name << " " << w;
      EXPECT_EQ(layout.layers.front().loads.empty(), !has_projection) << "the projection is multiplied by";
      EXPECT_FALSE(layout.layers.back().loads.empty()) << "the tied head wants all of it";
      EXPECT_FALSE(plan_weights(layers, DType::float16, share).layers.front().loads.empty());
    }
    EXPECT_FALSE(plan_weights(layers, DType::float16, share_of(20, 70), {}, true).layers.front().places[0].looked_up);
  }
}

TEST(WeightLayout, AchievedSharesAreWithinTwoPercentAndEven) {
  for (const char* name : {"demo-model", "opt-125m", "opt-350m", "opt-1.3b", "opt-6.7b", "opt-30b"}) {
    const std::vector<LayerDescription> layers = layers_of(model_of(name));
    for (const Share& share : many_shares()) {
      SCOPED_TRACE(std::string(name) + " " + std::to_string(share.gpu_percent) + " " +
                   std::to_string(share.dram_percent));
      const WeightLayout layout = plan_weights(layers, DType::float16, share, {}, true);
      const auto total = static_cast<double>(layout.total_bytes());
      EXPECT_NEAR(static_cast<double>(layout.gpu_bytes) / total, share.gpu(), 0.02);
      EXPECT_NEAR(static_cast<double>(layout.dram_bytes) / total, share.dram(), 0.02);
      EXPECT_NEAR(static_cast<double>(layout.ssd_bytes) / total, share.ssd(), 0.02);
      for (const WeightPack& pack : layout.packs) {
        const double slack = 3 * static_cast<double>(split_alignment) + 2 * 7168;  // a row of the largest table
        EXPECT_NEAR(static_cast<double>(pack.gpu_bytes), share.gpu() * static_cast<double>(pack.bytes), slack);
        EXPECT_NEAR(static_cast<double>(pack.dram_bytes), share.dram() * static_cast<double>(pack.bytes), slack);
      }
    }
  }
}

TEST(WeightLayout, ATierThatWasNotAskedForGetsNothing) {
  const std::vector<LayerDescription> layers = layers_of(model_of("demo-model"));
  for (const double gpu : {0.0, 13.7, 50.0, 99.9, 100.0}) {
    EXPECT_EQ(plan_weights(layers, DType::float16, share_of(gpu, 100 - gpu)).ssd_bytes, 0U);
    EXPECT_EQ(plan_weights(layers, DType::float16, share_of(gpu, 0)).dram_bytes, 0U);
    EXPECT_EQ(plan_weights(layers, DType::float16, share_of(0, gpu)).gpu_bytes, 0U);
  }
  const WeightLayout whole = plan_weights(layers, DType::float16, share_of(100, 0));
  EXPECT_EQ(whole.slot_bytes, 0U);
  for (const LayerWeights& layer : whole.layers) EXPECT_TRUE(layer.loads.empty());
}

TEST(WeightLayout, TiedTablesAreStoredOnce) {
  for (const char* name : {"demo-model", "opt-350m", "opt-1.3b"}) {
    ModelSpec model = model_of(name);
    const auto bytes = [&] { return plan_weights(layers_of(model), DType::float32, share_of(40, 30)).total_bytes(); };
    const double tied = static_cast<double>(bytes());
    EXPECT_NEAR(tied / (4.0 * static_cast<double>(num_parameters(model))), 1, 0.002) << name;
    EXPECT_GE(tied, 4.0 * static_cast<double>(num_parameters(model)));
    model.head.tied = false;
    const double table = 4.0 * model.vocab * model.embedding.width;
    EXPECT_NEAR(static_cast<double>(bytes()) - tied, table, 2 * 256) << name;
  }
}

TEST(WeightLayout, AHeadThatSharesTheTableLoadsItFromTheEmbeddingsPack) {
  const std::vector<LayerDescription> layers = layers_of(model_of("demo-model"));
  const WeightLayout layout = plan_weights(layers, DType::float16, share_of(0, 100));
  const WeightPlace& in_embedding = layout.layers.front().places.front();
  const WeightPlace& in_head = layout.layers.back().places.back();
  EXPECT_EQ(in_head.pack, 0);
  EXPECT_EQ(in_head.offset, in_embedding.offset);
  EXPECT_EQ(in_head.bytes, in_embedding.bytes);
  EXPECT_EQ(layout.layers.back().loads.size(), 2U);
}

TEST(WeightLayout, RandomLayersKeepTheInvariants) {
  std::mt19937 random(11);
  for (int round = 0; round < 200; ++round) {
    std::vector<LayerDescription> layers(1 + random() % 6);
    for (LayerDescription& layer : layers)
      for (std::size_t w = 0; w < 1 + random() % 5; ++w) {
        WeightSpec weight{"w" + std::to_string(w),
                          1 + static_cast<std::int64_t>(random() % 900),
                          1 + static_cast<std::int64_t>(random() % 900),
                          {},
                          "",
                          0,
                          0};
        layer.weights.push_back(weight);
      }
    // The first weight of the first layer may be shared with the last layer.
    if (round % 2 == 0 && layers.size() > 1) {
      layers.front().weights.front().shared_as = "table";
      layers.back().weights.push_back(layers.front().weights.front());
    }
    const double gpu = static_cast<double>(random() % 1001) / 10;
    const double dram = (100 - gpu) * static_cast<double>(random() % 11) / 10;
    check_layout(layers, DType::bfloat16, plan_weights(layers, DType::bfloat16, share_of(gpu, dram)));
    if (HasFatalFailure()) return;
  }
}

}  // namespace
}  // namespace flexgen::test

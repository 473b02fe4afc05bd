#include "schedule/zigzag.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <map>
#include <sstream>
#include <string>
#include <tuple>
#include <vector>

namespace flexgen::test {
namespace {

std::vector<std::string> record(SweepShape shape, SweepOptions options) {
  RecordingExecutor executor;
  zigzag_sweep(executor, shape, options);
  return executor.lines();
}

std::string text(SweepShape shape, SweepOptions options) {
  std::string all;
  for (const std::string& line : record(shape, options)) all += line + "\n";
  return all;
}

// The order is the contract with the executor: these texts change only on purpose.

TEST(Zigzag, OneMicroBatch) {
  EXPECT_EQ(text({3, 1}, {}), R"(load_weights 0
load_cache 0 0
load_hidden 0 0
load_weights 1
load_cache 1 0
compute 0 0
store_cache 0 0
store_hidden 0 0
load_hidden 1 0
load_weights 2
load_cache 2 0
compute 1 0
store_cache 1 0
store_hidden 1 0
load_hidden 2 0
compute 2 0
store_cache 2 0
store_hidden 2 0
)");
}

TEST(Zigzag, TwoLayersThreeMicroBatches) {
  EXPECT_EQ(text({2, 3}, {}), R"(load_weights 0
load_cache 0 0
load_hidden 0 0
load_weights 1
load_cache 0 1
load_hidden 0 1
compute 0 0
store_cache 0 0
store_hidden 0 0
load_cache 0 2
load_hidden 0 2
compute 0 1
store_cache 0 1
store_hidden 0 1
load_cache 1 0
load_hidden 1 0
compute 0 2
store_cache 0 2
store_hidden 0 2
load_cache 1 1
load_hidden 1 1
compute 1 0
store_cache 1 0
store_hidden 1 0
load_cache 1 2
load_hidden 1 2
compute 1 1
store_cache 1 1
store_hidden 1 1
compute 1 2
store_cache 1 2
store_hidden 1 2
)");
}

// What the next sweep begins with must not wait for this one's tokens.
TEST(Zigzag, ASweepBetweenSweepsLoadsTheNextOnesFirstWeights) {
  EXPECT_EQ(text({2, 2}, {.first_weights_loaded = true, .more_follow = true}), R"(load_cache 0 0
load_hidden 0 0
load_cache 0 1
load_hidden 0 1
compute 0 0
store_cache 0 0
store_hidden 0 0
load_cache 1 0
load_hidden 1 0
compute 0 1
store_cache 0 1
store_hidden 0 1
load_weights 0
load_cache 1 1
load_hidden 1 1
compute 1 0
store_cache 1 0
store_hidden 1 0
compute 1 1
store_cache 1 1
store_hidden 1 1
load_weights 1
load_next_sweeps_cache
)");
}

TEST(Zigzag, OneLayerOneMicroBatch) {
  EXPECT_EQ(text({1, 1}, {}), R"(load_weights 0
load_cache 0 0
load_hidden 0 0
compute 0 0
store_cache 0 0
store_hidden 0 0
)");
}

struct Call {
  std::string what;
  std::int32_t layer = 0;
  std::int32_t micro_batch = -1;  // of load_weights
};

std::vector<Call> calls(SweepShape shape, SweepOptions options) {
  std::vector<Call> all;
  for (const std::string& line : record(shape, options)) {
    std::istringstream words(line);
    Call call;
    words >> call.what >> call.layer >> call.micro_batch;
    all.push_back(call);
  }
  return all;
}

// Every rule that an executor may rely on, for one shape.
void check_rules(SweepShape shape, SweepOptions options) {
  SCOPED_TRACE(std::to_string(shape.num_layers) + " layers, " + std::to_string(shape.num_micro_batches) +
               " micro-batches, loaded " + std::to_string(options.first_weights_loaded) + ", more " +
               std::to_string(options.more_follow));
  std::vector<Call> all = calls(shape, options);
  const auto is_early = [](const Call& call) { return call.what == "load_next_sweeps_cache"; };
  ASSERT_EQ(std::count_if(all.begin(), all.end(), is_early), options.more_follow ? 1 : 0);
  if (options.more_follow) {
    ASSERT_TRUE(is_early(all.back())) << "a slot of the cache is still wanted";
    all.pop_back();
  }
  using Key = std::tuple<std::string, std::int32_t, std::int32_t>;
  std::map<Key, std::size_t> when;  // position of each call about a pair
  std::vector<std::size_t> weight_loads;
  std::int32_t next_compute = 0;
  for (std::size_t i = 0; i < all.size(); ++i) {
    const Call& call = all[i];
    ASSERT_GE(call.layer, 0);
    ASSERT_LT(call.layer, shape.num_layers);
    ASSERT_LT(call.micro_batch, shape.num_micro_batches);
    if (call.what == "load_weights") {
      weight_loads.push_back(i);
    } else {
      ASSERT_TRUE(when.emplace(Key{call.what, call.layer, call.micro_batch}, i).second)
          << call.what << " " << call.layer << " " << call.micro_batch << " comes twice";
    }
    if (call.what == "compute") {
      ASSERT_EQ(call.layer * shape.num_micro_batches + call.micro_batch, next_compute) << "not in zig-zag order";
      ++next_compute;
    }
  }
  ASSERT_EQ(next_compute, shape.num_layers * shape.num_micro_batches);
  ASSERT_EQ(when.size(), 5U * static_cast<std::size_t>(next_compute));

  for (std::int32_t j = 0; j < shape.num_layers; ++j)
    for (std::int32_t k = 0; k < shape.num_micro_batches; ++k) {
      const std::size_t compute = when.at({"compute", j, k});
      ASSERT_LT(when.at({"load_cache", j, k}), compute);
      ASSERT_LT(when.at({"load_hidden", j, k}), compute);
      ASSERT_GT(when.at({"store_cache", j, k}), compute);
      ASSERT_GT(when.at({"store_hidden", j, k}), compute);
      if (j > 0) {
        ASSERT_GT(when.at({"load_hidden", j, k}), when.at({"store_hidden", j - 1, k}));
      }
      // At most one pair is loaded ahead: two slots suffice.
      const std::int32_t pair = j * shape.num_micro_batches + k;
      if (pair >= 2) {
        const std::int32_t freed = pair - 2;
        const auto before = when.at({"store_cache", freed / shape.num_micro_batches, freed % shape.num_micro_batches});
        ASSERT_GT(when.at({"load_cache", j, k}), before);
        ASSERT_GT(when.at({"load_hidden", j, k}), before);
      }
    }

  // Weights: every layer once, in order, before its first computation, and only one layer ahead (two slots).
  std::vector<std::int32_t> expected;
  const std::int32_t num_early = std::min(shape.num_layers, 2);  // of a sweep, asked for by the one before
  for (std::int32_t j = options.first_weights_loaded ? num_early : 0; j < shape.num_layers; ++j) expected.push_back(j);
  const std::size_t num_own = expected.size();
  for (std::int32_t j = 0; options.more_follow && j < num_early; ++j) expected.push_back(j);
  ASSERT_EQ(weight_loads.size(), expected.size());
  for (std::size_t i = 0; i < expected.size(); ++i) {
    ASSERT_EQ(all[weight_loads[i]].layer, expected[i]);
    const bool for_next_sweep = i >= num_own;
    const std::int32_t layer = for_next_sweep ? shape.num_layers + expected[i] : expected[i];
    if (!for_next_sweep) {
      ASSERT_LT(weight_loads[i], when.at({"compute", layer, 0}));
    }
    if (layer >= 2) {
      ASSERT_GT(weight_loads[i], when.at({"store_hidden", layer - 2, shape.num_micro_batches - 1}));
    }
    if (layer >= 1 && layer <= shape.num_layers) {
      ASSERT_LT(weight_loads[i], when.at({"compute", layer - 1, 0})) << "loaded late: nothing hides it";
    }
  }
}

TEST(Zigzag, RulesHoldForManyShapes) {
  for (std::int32_t layers = 1; layers <= 9; ++layers)
    for (std::int32_t batches = 1; batches <= 7; ++batches)
      for (const bool loaded : {false, true})
        for (const bool more : {false, true}) {
          check_rules({layers, batches}, {loaded, more});
          if (HasFatalFailure()) return;
        }
  check_rules({194, 20}, {true, true});
}

TEST(Zigzag, SweepsInARowLoadEachLayersWeightsOncePerSweep) {
  RecordingExecutor executor;
  for (int sweep = 0; sweep < 3; ++sweep) zigzag_sweep(executor, {4, 2}, {sweep > 0, sweep < 2});
  std::vector<std::string> loads;
  for (const std::string& line : executor.lines())
    if (line.starts_with("load_weights")) loads.push_back(line.substr(13));
  EXPECT_EQ(loads, (std::vector<std::string>{"0", "1", "2", "3", "0", "1", "2", "3", "0", "1", "2", "3"}));
}

}  // namespace
}  // namespace flexgen::test

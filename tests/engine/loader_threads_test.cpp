// Many threads bring weights home from a disk that answers late and out of turn: made for the thread sanitizer, and
// every placement must still give what one thread makes of the same file.
#include <gtest/gtest.h>

#include <atomic>
#include <chrono>
#include <cstring>
#include <thread>

#include "base/error.hpp"
#include "engine/weight_store.hpp"
#include "model/layer.hpp"
#include "ops/elementwise.hpp"
#include "tests/support/checkpoint_folder.hpp"
#include "tests/support/planned_tiers.hpp"
#include "tests/support/scratch_place.hpp"
#include "tests/support/tiny_model.hpp"
#include "tests/support/watched_weight_source.hpp"

namespace flexgen::test {
namespace {

// Calls wait 0 to 3 ms, neighbours in time differently.
std::function<void()> unsteady_disk() {
  return [num_calls = std::make_shared<std::atomic<int>>(0)] {
    std::this_thread::sleep_for(std::chrono::microseconds((*num_calls)++ * 7 % 4 * 1000));
  };
}

class LoaderThreads : public ::testing::Test {
 protected:
  const ModelSpec model_ = tiny_model(2);
  const std::vector<LayerDescription> layers_ = describe(make_layers(model_, {0, 2, true, true}, true));
  const ScratchPlace folder_;

  void SetUp() override { write_checkpoint(layers_, DType::float16, folder_.path()); }
  std::shared_ptr<WeightSource> slow_source() const {
    return std::make_shared<WatchedWeightSource>(make_checkpoint_source(Checkpoint::open(folder_.path())),
                                                 unsteady_disk());
  }

  // What all layers see, one after another.
  std::vector<std::byte> filled(std::shared_ptr<WeightSource> source, DType dtype, const QuantFormat& format,
                                const Share& share, const ImageThreads& threads) const {
    const WeightLayout layout = plan_weights(layers_, dtype, share, format);
    PlannedTiers tiers(home_of(layout));
    WeightStore store(layers_, layout, std::move(source), {dtype, true, threads}, tiers.memory());
    Tracer tracer;
    store.fill(&tracer);
    Stream stream("test", Stream::Mode::inline_tasks, Device{});
    Transfer transfer(stream, host_staging(store.uses_disk()));
    std::vector<std::byte> slot(layout.slot_bytes);
    std::vector<std::byte> seen;
    for (std::size_t j = 0; j < layers_.size(); ++j) {
      const LayerId id(static_cast<std::int32_t>(j));
      if (store.has_load(id)) store.load(id, slot.data(), transfer);
      if (store.has_gpu_part(id)) store.load_gpu_part(id, slot.data(), transfer);
      for (const MatrixView& view : store.views(id, slot.data()))
        seen.insert(seen.end(), view.data, view.data + view.size_bytes());
    }
    return seen;
  }

  void expect_serial_bytes(DType dtype, const QuantFormat& format) const {
    const auto plain = [&] { return make_checkpoint_source(Checkpoint::open(folder_.path())); };
    const std::vector<std::byte> serial = filled(plain(), dtype, format, {100, 0}, {1, 1ULL << 30});
    for (const Share& share : {Share{100, 0}, Share{0, 100}, Share{0, 0}, Share{30, 30}})
      EXPECT_EQ(filled(slow_source(), dtype, format, share, {6, 1024}), serial)
          << share.gpu_percent << " " << share.dram_percent;
  }
};

TEST_F(LoaderThreads, PlainWeights) { expect_serial_bytes(DType::float16, {}); }
TEST_F(LoaderThreads, ConvertedWeights) { expect_serial_bytes(DType::float32, {}); }
TEST_F(LoaderThreads, WeightsOfFourBits) { expect_serial_bytes(DType::float16, {4, 32}); }
TEST_F(LoaderThreads, WeightsOfEightBits) { expect_serial_bytes(DType::float32, {8, 64}); }

TEST_F(LoaderThreads, AnErrorEndsAllOfThem) {
  for (const int call : {0, 5, 20}) {
    const auto num_calls = std::make_shared<std::atomic<int>>(0);
    const auto source =
        std::make_shared<WatchedWeightSource>(make_checkpoint_source(Checkpoint::open(folder_.path())), [=] {
          std::this_thread::sleep_for(std::chrono::milliseconds(1));
          if ((*num_calls)++ == call) throw UserError(ExitCode::file, "the disk is gone", "");
        });
    EXPECT_THROW(filled(source, DType::float16, {4, 32}, {30, 30}, {6, 1024}), UserError);
  }
}

}  // namespace
}  // namespace flexgen::test

#include "run/planning/profile_correction.hpp"

#include <gtest/gtest.h>

#include "base/error.hpp"
#include "tests/support/scratch_place.hpp"

namespace flexgen::test {
namespace {

HardwareProfile profile_of(bool with_gpu) {
  HardwareProfile profile;
  profile.host = "box";
  profile.memory.read = {{1, 10e9}, {2, 20e9}};
  profile.memory.copy = {{2, 80e9}};
  profile.memory.matrix = {{DType::float32, 8, 2048, 1e11}, {DType::float32, 256, 2048, 4e11}};
  OpRates& ops = profile.memory.ops.emplace();
  for (const DType dtype : {DType::float32, DType::bfloat16}) {
    for (const int bits : {0, 4}) ops.products.push_back({dtype, bits, 8, 1024, 1e11});
    ops.cache_reads.push_back({dtype, 0, 128, 9e9});
    ops.prompts.push_back({dtype, 0, 128, 5e10, 3e9});
    ops.norms.push_back({dtype, 8, 1024, 2e9});
  }
  profile.disk.emplace();
  profile.disk->read = {{1 << 20, 8, 2e9}};
  profile.disk->write = {{1 << 20, 8, 1e9}};
  profile.disk->sustained_read = DiskRate{1 << 20, 8, 1.5e9};
  profile.links = {{"mpi", 0, 1, false, 1e-5, {{1 << 20, 1e9}}}};
  if (!with_gpu) return profile;
  GpuProfile& gpu = profile.gpu.emplace();
  gpu.host_to_gpu = gpu.gpu_to_host = {{1 << 20, 25e9}};
  gpu.both_directions = {{1 << 20, 40e9}};
  gpu.memory_bytes_per_second = 1e12;
  gpu.matrix = {{DType::float16, 256, 4096, 2e14}};
  gpu.beside_host_reads = {{4, 15e9, 20e9}};
  return profile;
}

void expect_equal(const Ceilings& a, const Ceilings& b) {
  for (const auto rate :
       {&Ceilings::matrix_operations, &Ceilings::gpu_memory_bytes, &Ceilings::host_to_gpu_bytes,
        &Ceilings::gpu_to_host_bytes, &Ceilings::both_directions_bytes, &Ceilings::host_read_bytes,
        &Ceilings::host_copy_bytes, &Ceilings::disk_read_bytes, &Ceilings::disk_write_bytes, &Ceilings::network_bytes})
    EXPECT_DOUBLE_EQ(a.*rate, b.*rate);
  ASSERT_EQ(a.products.size(), b.products.size());
  for (std::size_t i = 0; i < a.products.size(); ++i)
    EXPECT_DOUBLE_EQ(a.products[i].operations, b.products[i].operations);
}

void expect_close(double a, double b) { EXPECT_NEAR(a, b, 1e-9 * b); }

void expect_equal(const StageRates& a, const StageRates& b) {
  expect_close(a.device.products({}).at(8, 1024), b.device.products({}).at(8, 1024));
  expect_close(a.device.products({4, 64}).at(8, 1024), b.device.products({4, 64}).at(8, 1024));
  expect_close(a.host.cache_reads.at(100), b.host.cache_reads.at(100));
  expect_close(a.host.prompts.at(100), b.host.prompts.at(100));
  expect_close(a.host.cache_writes.at(100), b.host.cache_writes.at(100));
  expect_close(a.host.norms.at(8, 1024), b.host.norms.at(8, 1024));
}

// What a plan is made by is the same, be the ceiling corrected or the profile that it is taken from.
TEST(ProfileCorrection, AProfileIsCorrectedAsItsCeilingsAre) {
  for (const bool on_gpu : {false, true})
    for (std::size_t c = 0; c < num_ceilings; ++c) {
      const auto ceiling = static_cast<Ceiling>(c);
      SCOPED_TRACE(ceiling_name(ceiling));
      HardwareProfile profile = profile_of(on_gpu);
      const DType dtype = on_gpu ? DType::bfloat16 : DType::float32;
      Policy policy;
      policy.dtype = dtype;
      const auto stage_of = [&] {
        const MachineShare half = MachineShare::even(2);
        return StageInput{
            {}, {}, ceilings_of(profile, on_gpu, dtype, half, "mpi"), stage_rates(profile, policy, on_gpu, half)};
      };
      StageInput wanted = stage_of();
      EXPECT_GT(wanted.ceilings.matrix_operations, 0);
      scale_ceiling(wanted, ceiling, 0.5);
      correct_rates(profile, {on_gpu, dtype, "mpi"}, ceiling, 0.5);
      expect_equal(stage_of().ceilings, wanted.ceilings);
      expect_equal(*stage_of().rates, *wanted.rates);
    }
}

class CorrectedFile : public ::testing::Test {
 protected:
  std::string correct(const HardwareProfile& used, double factor = 0.5) {
    return correct_file(path_, "box", used, {false, DType::float32, ""}, {Ceiling::matrix, 4e11, factor * 4e11},
                        "4 sweeps");
  }
  HardwareProfile saved() const { return load_profile(path_, "box")->profile; }

  ScratchPlace place_;
  std::string path_ = (place_.path() / "profile.json").string();
};

TEST_F(CorrectedFile, HasTheNewRatesAndANoteOfThem) {
  const HardwareProfile profile = profile_of(false);
  save_profile(profile, path_);
  EXPECT_NE(correct(profile).find("is corrected: matrix x 0.5"), std::string::npos);
  EXPECT_EQ(best_rate(saved().memory.matrix, DType::float32), 2e11);
  EXPECT_EQ(saved().memory.read, profile.memory.read);
  correct(saved(), 3);
  ASSERT_EQ(saved().corrected->size(), 1U);
  EXPECT_EQ(saved().corrected->front(), (CorrectedCeiling{"matrix", 1.5, "4 sweeps"}));
}

TEST_F(CorrectedFile, IsLeftAloneWhereItIsNotTheMachinesOwn) {
  HardwareProfile listed = profile_of(false);
  listed.sources = {"data sheet"};
  HardwareProfile other = profile_of(false);
  other.host = "elsewhere";
  for (const HardwareProfile& profile : {listed, other}) {
    save_profile(profile, path_);
    EXPECT_NE(correct(profile).find("stays as it is"), std::string::npos);
    EXPECT_EQ(saved(), profile);
  }
  save_profile(profile_of(false), path_);
  EXPECT_NE(correct(other).find("it has changed"), std::string::npos);
  EXPECT_EQ(saved(), profile_of(false));
}

}  // namespace
}  // namespace flexgen::test

// Whatever a job asks for that does not fit, the message names a policy that does, on all ranks, as flags of the
// program; or nothing fits.
#include "run/policy_fit.hpp"

#include <gtest/gtest.h>

#include <array>
#include <optional>
#include <random>
#include <sstream>

#include "app/options.hpp"
#include "base/error.hpp"
#include "comm/in_process.hpp"
#include "tests/policy/plan_cases.hpp"

namespace flexgen::test {
namespace {

// A made-up job on made-up machines.
struct Case {
  ModelSpec model;
  JobShape shape;
  std::vector<Budgets> budgets;  // by rank
  PolicyRequest request;
};

class Draw {
 public:
  explicit Draw(std::uint64_t seed) : random_(seed) {}

  template <class T>
  T of(std::initializer_list<T> values) {
    return values.begin()[random_() % values.size()];
  }
  bool one_in(std::uint64_t count) { return random_() % count == 0; }
  // Up to 4 GiB, mostly some hundred MiB.
  std::uint64_t bytes() { return (1 + random_() % 1024) << of({12, 17, 18, 19, 20, 22}); }
  Placement placement() {
    std::array<double, 6> percent{};
    for (std::size_t i = 0; i < 6; i += 2) {
      percent[i] = of({0.0, 12.5, 100.0 / 3, 50.0, 99.9, 100.0});
      percent[i + 1] = (100 - percent[i]) * of({0.0, 0.3, 1.0});
    }
    return make_placement(percent);
  }

 private:
  std::mt19937_64 random_;
};

PolicyRequest draw_request(Draw& draw) {
  PolicyRequest request;
  if (!draw.one_in(8)) request.placement = draw.placement();
  request.gpu_batch_size = draw.of({1, 3, 16, 64});
  request.num_gpu_batches = draw.of({1, 2, 7});
  request.dtype = draw.of({DType::float32, DType::float16, DType::bfloat16});
  if (draw.one_in(4)) request.token_budget = draw.of({64, 100});
  if (draw.one_in(4)) request.prefix_sharing = false;
  if (draw.one_in(4)) request.weight_format = {4, 64};
  if (draw.one_in(4)) request.cache_format = {8, 64};
  if (draw.one_in(4)) request.sep_layer = draw.one_in(2);
  if (draw.one_in(8)) request.static_blocks = true;
  if (request.placement && draw.one_in(3)) {
    request.cpu_attention_percent = draw.of({40.0, 100.0});
    Share& cache = request.placement->cache;
    cache.dram_percent = 100 - cache.gpu_percent;
  }
  return request;
}

Case draw_case(Draw& draw) {
  Case made;
  made.model = model_of(draw.of({"demo-model", "opt-125m", "opt-350m", "opt-1.3b"}));
  made.model.num_layers = draw.of({3, 4, 12});
  const int prompt = draw.of({1, 40, 700}), generated = draw.of({1, 30});
  made.shape.add_rows(prompt, generated, draw.of({1, 20, 500}));
  if (draw.one_in(3)) made.shape.add_rows(5, 200, 9);
  made.shape.scores = draw.one_in(6);
  for (int ranks = draw.of({1, 1, 2, 3}); ranks > 0; --ranks)
    made.budgets.push_back({draw.bytes(), draw.bytes(), draw.one_in(3) ? 0 : draw.bytes()});
  made.request = draw_request(draw);
  if (made.budgets.size() == 2 && draw.one_in(2)) made.request.slices = {{1, made.model.num_layers - 1}};
  return made;
}

// The policies that are chosen, or why none is.
struct Chosen {
  std::optional<JobPolicy> policy;
  std::string misfit;
};

Chosen choose(const Case& job, const PolicyRequest& request) {
  Chosen chosen;
  const Device device;
  const auto num_ranks = static_cast<int>(job.budgets.size());
  InProcessWorld(num_ranks).run([&](Transport&, Communicator& ranks) {
    const RankProfiles profiles(job.budgets.size());
    const Budgets& own = job.budgets[static_cast<std::size_t>(ranks.rank())];
    try {
      const JobPolicy policy = choose_policy(request, {job.model, job.shape, device, "mpi"}, own, profiles, ranks);
      if (ranks.rank() == 0) chosen.policy = policy;
    } catch (const AgreedError& error) {
      EXPECT_EQ(error.code(), ExitCode::does_not_fit) << error.what();
      if (ranks.rank() == 0) chosen.misfit = error.what();
    }
  });
  return chosen;
}

// As a user pastes it, in the place of all flags of the policy but --slices.
PolicyRequest pasted(const std::string& flags, const PolicyRequest& asked) {
  std::istringstream text(flags);
  std::vector<std::string> words{"--model", "m"};
  for (std::string word; text >> word;) words.push_back(word);
  PolicyRequest request = parse_options("bench", words).value().policy;
  request.slices = asked.slices;
  return request;
}

// No line of flags does better than the one that says that nothing fits.
void expect_that_nothing_fits(const Case& job) {
  const std::array<std::pair<double, double>, 3> tiers{{{100, 0}, {0, 100}, {0, 0}}};
  for (const std::int32_t tokens : {1, 1000000})
    for (int corner = 0; corner < 27; ++corner) {
      const auto &weights = tiers[corner % 3], &cache = tiers[corner / 3 % 3], &hidden = tiers[corner / 9];
      PolicyRequest request;
      request.dtype = job.request.dtype;
      request.weight_format = job.request.weight_format;
      request.cache_format = job.request.cache_format;
      request.slices = job.request.slices;
      request.prefix_sharing = false;
      request.gpu_batch_size = request.num_gpu_batches = 1;
      request.token_budget = tokens;
      request.placement =
          make_placement({weights.first, weights.second, cache.first, cache.second, hidden.first, hidden.second});
      const Chosen chosen = choose(job, request);
      EXPECT_FALSE(chosen.policy) << to_text(*chosen.policy);
    }
}

TEST(PolicyFit, EveryMisfitNamesAPolicyThatFits) {
  const std::string mark = "The nearest one that fits: ";
  int num_offers = 0, num_of_ranks = 0, num_hopeless = 0;
  for (std::uint64_t seed = 0; seed < 250; ++seed) {
    SCOPED_TRACE(seed);
    Draw draw(seed);
    const Case job = draw_case(draw);
    const Chosen refused = choose(job, job.request);
    if (refused.policy) continue;
    const std::size_t at = refused.misfit.find(mark);
    if (at == std::string::npos) {
      EXPECT_NE(refused.misfit.find("not even one row"), std::string::npos) << refused.misfit;
      if (num_hopeless++ < 5) expect_that_nothing_fits(job);
      continue;
    }
    ++num_offers;
    num_of_ranks += job.budgets.size() > 1 ? 1 : 0;
    const std::string flags = refused.misfit.substr(at + mark.size());
    const Chosen offered = choose(job, pasted(flags, job.request));
    ASSERT_TRUE(offered.policy) << refused.misfit << "\n" << offered.misfit;
    for (std::size_t r = 0; r < job.budgets.size(); ++r) EXPECT_EQ(to_flags(offered.policy->of_rank(r)), flags);
    EXPECT_EQ(offered.policy->block.weight_format, job.request.weight_format);
    EXPECT_EQ(offered.policy->block.cache_format, job.request.cache_format);
    EXPECT_EQ(offered.policy->block.dtype, job.request.dtype);
  }
  EXPECT_GT(num_offers, 60);
  EXPECT_GT(num_of_ranks, 20);
  EXPECT_GT(num_hopeless, 10) << num_offers << " " << num_of_ranks;
}

}  // namespace
}  // namespace flexgen::test

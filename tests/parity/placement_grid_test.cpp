// Every placement on every number of ranks, with every block and with and without overlap, against a resident run: one
// rank, all on the gpu tier, nothing behind the computation, one row at a time. Logits and scores must be equal bit for
// bit: where a tensor lies, what lies beside it and who computes it are no part of the arithmetic.
#include <gtest/gtest.h>

#include <algorithm>
#include <map>
#include <set>
#include <tuple>

#include "tests/support/in_process_job.hpp"
#include "tests/support/scratch_place.hpp"
#include "tests/support/tiny_model.hpp"

namespace flexgen::test {
namespace {

// Blocks of greedy_parity.py: one row at a time (nothing to load ahead), a ragged block (remainders everywhere), a
// large one. Rows for more than a block, so that places are filled anew, and for more than one group per rank; budgets
// that cut prompts into parts of few tokens, and none.
struct Block {
  std::int32_t micro_batch_size, num_micro_batches;
  std::size_t num_rows;
  std::int32_t token_budget;
};
constexpr Block kBlocks[] = {{1, 1, 7, 6}, {7, 3, 50, 16}, {64, 2, 150, 0}};
constexpr std::array<double, 6> kPlacements[] = {
    {100, 0, 100, 0, 100, 0}, {20, 80, 0, 100, 0, 100}, {0, 50, 0, 50, 0, 50}, {0, 0, 0, 0, 0, 0}};

// How keys, values and weights are kept, and how they are used. What changes the arithmetic is compared with a resident
// run of the same arithmetic.
struct Form {
  const char* name;
  DType dtype = DType::float32;
  QuantFormat weights, cache;
  double attention_sparsity = 1;
  bool scores = false;   // of the prompts, in the place of logits
  bool samples = false;  // tokens of every second row are drawn, with penalties, bans and log-probabilities
};
constexpr Form kPlain{"plain", DType::float32, {}, {}};
constexpr Form kHalf{"half", DType::float16, {}, {}};
constexpr Form kCompressed{"compressed", DType::float32, {4, 32}, {4, 32}};
constexpr Form kSparse{"sparse", DType::float32, {}, {}, 0.4};
constexpr Form kScored{"scored", DType::float32, {}, {}, 1, true};
constexpr Form kSampled{"sampled", DType::float32, {}, {}, 1, false, true};
constexpr Form kScoredAndSampled{"scored_sampled", DType::float32, {}, {}, 1, true, true};

struct Case {
  Form form;
  std::array<double, 6> percent;
  int num_ranks;
  Block block;
  bool overlap;
  bool separate_layers = true;
  double host_attention_percent = 0;
};

std::string name_of(const Case& one) {
  std::string name = std::string(one.form.name) + "_ranks" + std::to_string(one.num_ranks) + "_block" +
                     std::to_string(one.block.micro_batch_size) + "x" + std::to_string(one.block.num_micro_batches) +
                     (one.overlap ? "_overlap" : "_inline");
  for (const double percent : one.percent) name += "_" + std::to_string(static_cast<int>(percent));
  if (!one.separate_layers) name += "_whole";
  if (one.host_attention_percent > 0) name += "_host" + std::to_string(static_cast<int>(one.host_attention_percent));
  return name;
}

std::ostream& operator<<(std::ostream& out, const Case& one) { return out << name_of(one); }

// What rows ask for differs from row to row: some are plain, so that blocks are mixed and some have none of it.
std::shared_ptr<const TokenRules> rules_of(std::size_t r) {
  if (r % 2 == 1 || r % 12 == 4) return nullptr;
  TokenRules rules;
  rules.sampling.seed = r;
  rules.sampling.temperature = r % 4 == 0 ? 1.3F : 0.0F;
  rules.sampling.top_k = r % 3 == 0 ? 40 : 0;
  rules.sampling.top_p = r % 5 == 0 ? 0.8F : 1.0F;
  rules.sampling.repetition_penalty = r % 6 == 0 ? 1.4F : 1.0F;
  rules.sampling.presence_penalty = r % 8 == 2 ? 0.7F : 0.0F;
  rules.sampling.frequency_penalty = r % 8 == 6 ? 0.4F : 0.0F;
  if (r % 10 == 8) rules.sampling.logit_bias = {{static_cast<std::int32_t>(r % 31), 2.5F}};
  rules.sampling.min_tokens = r % 4 == 2 ? 2 : 0;
  rules.end_tokens = {3, 17, 99};
  rules.sampling.num_logprobs = static_cast<std::int32_t>(r % 5) - 1;
  rules.num_prompt_top = std::max(0, rules.sampling.num_logprobs);
  return std::make_shared<const TokenRules>(std::move(rules));
}

// Prompts of 1 to 23 tokens; rows want 1 to 5 new ones, so that they leave their block one after another.
InProcessJob job_of(const Form& form, std::size_t num_rows, const std::filesystem::path& offload_dir) {
  InProcessJob job;
  job.model = tiny_model();
  job.policy.dtype = form.dtype;
  job.policy.weight_format = form.weights;
  job.policy.cache_format = form.cache;
  job.policy.attention_sparsity = form.attention_sparsity;
  job.scores = form.scores;
  job.keep_logits = !form.scores;
  job.new_tokens = 5;
  for (std::size_t r = 0; r < num_rows; ++r) {
    std::vector<std::int32_t>& prompt = job.prompts.emplace_back();
    for (std::size_t t = 0; t < 1 + r * 7 % 23; ++t)
      prompt.push_back(static_cast<std::int32_t>((31 * r + 17 * t * t) % static_cast<std::size_t>(job.model.vocab)));
    job.fewer_tokens.push_back(static_cast<std::int32_t>(1 + r * 3 % 5));
    if (form.samples) job.rules.push_back(rules_of(r));
  }
  job.offload_dir = offload_dir;
  job.make_source = [](int) { return make_random_source(); };
  return job;
}

const InProcessResult& resident(const Form& form) {
  static std::map<std::string, InProcessResult> results;
  const auto [at, is_new] = results.try_emplace(form.name);
  if (is_new) {
    const ScratchPlace scratch;
    InProcessJob job = job_of(form, kBlocks[2].num_rows, scratch.path());
    job.policy.overlap = false;
    at->second = run_in_process(job);
  }
  return at->second;
}

// What a run with this placement cannot do without.
std::set<Resource> used_resources(const Case& one) {
  std::set<Resource> used{Resource::compute};
  for (std::size_t i = 0; i < 6; i += 2) {
    if (one.percent[i + 1] > 0) used.insert(Resource::host_to_gpu);
    if (one.percent[i] + one.percent[i + 1] < 100) used.insert({Resource::disk_read, Resource::disk_write});
  }
  if (one.num_ranks > 1) used.insert({Resource::send, Resource::recv});
  // Where the first rows' cache lies elsewhere, a block that is not full may have no row for the host.
  if (one.host_attention_percent > 0 && (one.percent[2] == 0 || one.block.micro_batch_size == 7))
    used.insert(Resource::host_attention);
  return used;
}

// Of the prompt's tokens and its own, as far as either are wanted.
std::size_t num_scores(const InProcessJob& job, std::size_t r) {
  const TokenRules* const rules = r < job.rules.size() ? job.rules[r].get() : nullptr;
  const std::size_t of_tokens =
      rules && rules->sampling.num_logprobs >= 0 ? static_cast<std::size_t>(job.fewer_tokens[r]) : 0;
  return (job.scores ? job.prompts[r].size() - 1 : 0) + of_tokens;
}

void expect_equal(const InProcessJob& job, const Form& form, const InProcessResult& result) {
  const InProcessResult& expected = resident(form);
  for (std::size_t r = 0; r < job.prompts.size(); ++r) {
    ASSERT_EQ(result.ids[r].size(), static_cast<std::size_t>(job.fewer_tokens[r])) << "row " << r;
    ASSERT_EQ(result.ids[r], expected.ids[r]) << "row " << r;
    ASSERT_EQ(result.scores[r].size(), num_scores(job, r)) << "row " << r;
    ASSERT_EQ(result.scores[r], expected.scores[r]) << "row " << r;
    ASSERT_EQ(result.top_tokens[r], expected.top_tokens[r]) << "row " << r;
    ASSERT_EQ(result.top_scores[r], expected.top_scores[r]) << "row " << r;
    ASSERT_EQ(result.logits[r].size(), form.scores ? 0U : result.ids[r].size()) << "row " << r;
    ASSERT_TRUE(result.logits[r] == expected.logits[r]) << "row " << r << ": other logits";
  }
}

class PlacementGrid : public ::testing::TestWithParam<Case> {};

TEST_P(PlacementGrid, GivesWhatTheResidentRunGives) {
  const Case& one = GetParam();
  const ScratchPlace scratch;
  InProcessJob job = job_of(one.form, one.block.num_rows, scratch.path());
  job.num_ranks = one.num_ranks;
  job.policy.placement = make_placement(one.percent);
  job.policy.micro_batch_size = one.block.micro_batch_size;
  job.policy.num_micro_batches = one.block.num_micro_batches;
  job.policy.token_budget = one.block.token_budget;
  job.policy.overlap = one.overlap;
  job.policy.separate_layers = one.separate_layers;
  job.policy.host_attention_percent = one.host_attention_percent;
  job.keep_trace = true;
  const InProcessResult result = run_in_process(job);

  expect_equal(job, one.form, result);
  std::set<Resource> used;
  for (const TraceEvent& event : result.trace) used.insert(event.resource);
  for (const Resource resource : used_resources(one))
    EXPECT_TRUE(used.contains(resource)) << resource_name(resource) << " was never used";
  EXPECT_TRUE(std::filesystem::is_empty(scratch.path())) << "a scratch file is left";
}

std::vector<Case> all_combinations(const Form& form) {
  std::vector<Case> cases;
  for (const auto& percent : kPlacements)
    for (const int ranks : {1, 2, 3, 4})
      for (const Block& block : kBlocks)
        for (const bool overlap : {true, false}) cases.push_back({form, percent, ranks, block, overlap});
  return cases;
}

// Each placement on one and three ranks, with the ragged block.
std::vector<Case> some_combinations(const Form& form) {
  std::vector<Case> cases = all_combinations(form);
  std::erase_if(cases, [](const Case& one) { return one.num_ranks % 2 == 0 || one.block.micro_batch_size != 7; });
  return cases;
}

// Decode attention where the cache lies, of all rows or of some, layers whole or in two.
std::vector<Case> with_host_attention(const Form& form) {
  std::vector<Case> cases;
  for (const int ranks : {1, 2, 4})
    for (const Block& block : kBlocks)
      for (const bool overlap : {true, false})
        for (const std::array<double, 6>& percent :
             {std::array<double, 6>{20, 80, 0, 100, 0, 100}, {0, 100, 30, 70, 0, 100}, {20, 30, 0, 100, 100, 0}})
          for (const double host : {100.0, 50.0})
            cases.push_back({form, percent, ranks, block, overlap, host == 100, host});
  return cases;
}

std::vector<Case> as_whole_layers(const Form& form) {
  std::vector<Case> cases = all_combinations(form);
  std::erase_if(cases, [](const Case& one) { return one.block.micro_batch_size == 1 || one.num_ranks == 3; });
  for (Case& one : cases) one.separate_layers = false;
  return cases;
}

// Ranks with slices and placements of their own: only the block is one.
using UnlikeRanks = ::testing::TestWithParam<std::tuple<Block, bool>>;

StagePolicy stage_of(const std::array<double, 6>& percent, double host_percent, bool separate_layers, bool overlap) {
  StagePolicy stage;
  stage.placement = make_placement(percent);
  stage.host_attention_percent = host_percent;
  stage.separate_layers = separate_layers;
  stage.overlap = overlap;
  return stage;
}

TEST_P(UnlikeRanks, GiveWhatTheResidentRunGives) {
  const auto& [block, overlap] = GetParam();
  for (const Form& form : {kPlain, kCompressed}) {
    const ScratchPlace scratch;
    InProcessJob job = job_of(form, block.num_rows, scratch.path());
    job.policy.micro_batch_size = block.micro_batch_size;
    job.policy.num_micro_batches = block.num_micro_batches;
    job.policy.token_budget = block.token_budget;
    job.num_ranks = 4;
    job.model = tiny_model(7);
    job.slices = {1, 3, 1, 2};
    job.stages = {
        stage_of({100, 0, 100, 0, 100, 0}, 0, true, overlap), stage_of({0, 30, 30, 70, 0, 50}, 60, false, overlap),
        stage_of({20, 80, 0, 100, 100, 0}, 100, true, !overlap), stage_of({0, 0, 20, 30, 0, 0}, 0, false, overlap)};
    job.policy.cache_cut = job.stages[1].own_cut();
    ASSERT_TRUE(job.policy.cache_cut.is_cut());
    const InProcessResult result = run_in_process(job);

    InProcessJob alone = job_of(form, block.num_rows, scratch.path());
    alone.model = job.model;
    alone.policy.overlap = false;
    const InProcessResult expected = run_in_process(alone);
    for (std::size_t r = 0; r < job.prompts.size(); ++r) {
      ASSERT_EQ(result.ids[r], expected.ids[r]) << "row " << r;
      ASSERT_TRUE(result.logits[r] == expected.logits[r]) << "row " << r << ": other logits";
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Blocks, UnlikeRanks, ::testing::Combine(::testing::ValuesIn(kBlocks), ::testing::Bool()));

const auto by_name = [](const auto& info) { return name_of(info.param); };
INSTANTIATE_TEST_SUITE_P(Plain, PlacementGrid, ::testing::ValuesIn(all_combinations(kPlain)), by_name);
INSTANTIATE_TEST_SUITE_P(WholeLayers, PlacementGrid, ::testing::ValuesIn(as_whole_layers(kPlain)), by_name);
INSTANTIATE_TEST_SUITE_P(Half, PlacementGrid, ::testing::ValuesIn(some_combinations(kHalf)), by_name);
INSTANTIATE_TEST_SUITE_P(Compressed, PlacementGrid, ::testing::ValuesIn(all_combinations(kCompressed)), by_name);
INSTANTIATE_TEST_SUITE_P(Sparse, PlacementGrid, ::testing::ValuesIn(some_combinations(kSparse)), by_name);
INSTANTIATE_TEST_SUITE_P(Scored, PlacementGrid, ::testing::ValuesIn(some_combinations(kScored)), by_name);
INSTANTIATE_TEST_SUITE_P(Sampled, PlacementGrid, ::testing::ValuesIn(all_combinations(kSampled)), by_name);
INSTANTIATE_TEST_SUITE_P(ScoredAndSampled, PlacementGrid, ::testing::ValuesIn(some_combinations(kScoredAndSampled)),
                         by_name);
INSTANTIATE_TEST_SUITE_P(HostAttention, PlacementGrid, ::testing::ValuesIn(with_host_attention(kPlain)), by_name);
INSTANTIATE_TEST_SUITE_P(CompressedHostAttention, PlacementGrid, ::testing::ValuesIn(with_host_attention(kCompressed)),
                         by_name);

}  // namespace
}  // namespace flexgen::test

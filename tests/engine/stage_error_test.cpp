// Whatever fails, on whichever rank and stream, ends the job on rank 0 with that very error, and soon.
#include <gtest/gtest.h>

#include "base/error.hpp"
#include "tests/support/faulty_transport.hpp"
#include "tests/support/faulty_weight_source.hpp"
#include "tests/support/in_process_job.hpp"
#include "tests/support/scratch_place.hpp"
#include "tests/support/tiny_model.hpp"

namespace flexgen::test {
namespace {

constexpr double patience_seconds = 30;

class StageError : public ::testing::TestWithParam<std::tuple<int, bool>> {
 protected:
  int ranks() const { return std::get<0>(GetParam()); }

  InProcessJob job() const {
    InProcessJob job;
    job.model = tiny_model();
    job.num_ranks = ranks();
    job.policy.micro_batch_size = 2;
    job.policy.num_micro_batches = 2;
    job.policy.placement = make_placement({0, 50, 0, 50, 0, 50});
    job.policy.overlap = std::get<1>(GetParam());
    for (std::int32_t r = 0; r < 9; ++r) job.prompts.emplace_back(static_cast<std::size_t>(1 + r), 3 + r);
    job.new_tokens = 5;
    job.offload_dir = scratch_.path();
    job.make_source = [](int) { return make_random_source(); };
    return job;
  }

  static void expect_error(const InProcessJob& job, const std::string& message, const std::string& where) {
    within(patience_seconds, where.c_str(), [&] {
      try {
        run_in_process(job);
        ADD_FAILURE() << where << ": the job ended well";
      } catch (const Error& error) {
        EXPECT_NE(std::string(error.what()).find(message), std::string::npos) << where << ": " << error.what();
      }
    });
  }

  const ScratchPlace scratch_;
};

TEST_P(StageError, NoneWithoutAFault) {
  within(patience_seconds, "the job", [&] {
    const InProcessResult result = run_in_process(job());
    for (const auto& ids : result.ids) EXPECT_EQ(ids.size(), 5U);
  });
}

TEST_P(StageError, WhileWeightsGoHome) {
  for (int bad = 0; bad < ranks(); ++bad)
    for (const int call : {0, 4}) {
      InProcessJob faulty = job();
      faulty.make_source = [bad, call](int rank) -> std::shared_ptr<WeightSource> {
        if (rank != bad) return make_random_source();
        return std::make_shared<FaultyWeightSource>(make_random_source(), call);
      };
      expect_error(faulty, "injected into produce", "produce on rank " + std::to_string(bad));
    }
}

TEST_P(StageError, WhileASweepLoadsWeights) {
  for (int bad = 0; bad < ranks(); ++bad) {
    InProcessJob faulty = job();
    // Sizes that leave no alignment gaps between weights: then they are read where they are said to lie.
    faulty.model.hidden = faulty.model.embedding.width = 64;
    faulty.model.attention = AttentionSpec::of_heads(4, 64);
    faulty.model.mlp.width = faulty.model.vocab = 128;
    faulty.make_source = [this, bad](int rank) -> std::shared_ptr<WeightSource> {
      if (rank != bad) return make_random_source();
      return std::make_shared<ShortFileSource>(make_random_source(), scratch_.path());
    };
    expect_error(faulty, "short.bin", "weights of rank " + std::to_string(bad));
  }
}

TEST_P(StageError, OfTheTransport) {
  if (ranks() == 1) GTEST_SKIP() << "one rank sends nothing";
  const int last = ranks() - 1;
  struct Where {
    TransportCall call;
    Channel channel;
    int rank;
  };
  const Where places[] = {{TransportCall::send, Channel::hidden, 0},
                          {TransportCall::recv, Channel::hidden, last},
                          {TransportCall::send_message, Channel::tokens, last},
                          {TransportCall::recv_message, Channel::tokens, 0},
                          {TransportCall::send_message, Channel::control, 0},
                          {TransportCall::recv_message, Channel::control, last}};
  for (const Where& place : places)
    for (const int failing_call : {0, 5}) {
      InProcessJob faulty = job();
      faulty.decorate = [&](Transport& own) -> std::unique_ptr<Transport> {
        if (own.rank() != place.rank) return nullptr;
        return std::make_unique<FaultyTransport>(own, place.call, place.channel, failing_call);
      };
      expect_error(faulty, "the link is down",
                   std::string(channel_name(place.channel)) + " on rank " + std::to_string(place.rank) + ", call " +
                       std::to_string(failing_call));
    }
}

INSTANTIATE_TEST_SUITE_P(Ranks, StageError, ::testing::Combine(::testing::Values(1, 2, 3), ::testing::Bool()),
                         [](const auto& info) {
                           return "ranks" + std::to_string(std::get<0>(info.param)) +
                                  (std::get<1>(info.param) ? "overlap" : "inline");
                         });

}  // namespace
}  // namespace flexgen::test

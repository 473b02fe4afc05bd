// What keeps the stages of a pipeline busy: hidden states of the next sweep travel while this one is computed, nobody
// waits for a send, and a slow wire costs its latency once a round, not once a micro-batch.
#include <gtest/gtest.h>

#include <array>
#include <chrono>
#include <memory>
#include <thread>

#include "base/bytes.hpp"
#include "base/error.hpp"
#include "comm/in_process.hpp"
#include "engine/link_places.hpp"
#include "engine/neighbours.hpp"
#include "engine/surroundings.hpp"
#include "engine/transfer_stream.hpp"
#include "tests/support/in_process_job.hpp"
#include "tests/support/scratch_place.hpp"
#include "tests/support/slow_transport.hpp"
#include "tests/support/tiny_model.hpp"

namespace flexgen::test {
namespace {

using namespace std::chrono_literals;

constexpr std::uint64_t token_bytes = 8;
constexpr std::uint64_t states_bytes = 2 * token_bytes;  // of a micro-batch

MemoryPieces link_pieces() {
  MemoryPieces pieces;
  for (const Piece piece : {Piece::received_hidden, Piece::sent_hidden})
    pieces.add(piece, TierKind::dram, {states_bytes, 2, cache_line_bytes});
  return pieces;
}

// Two micro-batches of two tokens.
SweepWork sweep(std::int64_t number) {
  SweepWork work;
  work.number = number;
  for (std::int32_t k = 0; k < 2; ++k) {
    MicroBatchWork& batch = work.micro_batches.emplace_back();
    batch.slot = k;
    for (std::int64_t r = 0; r < 2; ++r) batch.rows.push_back({.row = RowId(r), .tokens = {1}});
  }
  return work;
}

// Both ends of one link in one thread: rank 0 and the last of two.
class LinkTest : public ::testing::Test {
 protected:
  void send(std::uint8_t value) {
    std::array<std::byte, states_bytes> states{};
    states.fill(std::byte{value});
    stores_.post([&](Transfer& transfer) { first_.send_hidden(states.data(), states.size(), transfer); });
  }
  std::uint8_t receive() {
    std::array<std::byte, states_bytes> states{};
    loads_.post([&](Transfer& transfer) { last_.receive_hidden(states.data(), states.size(), transfer); });
    EXPECT_EQ(states.front(), states.back());
    return static_cast<std::uint8_t>(states.front());
  }
  // What the sends of rank 0 have done so far, by what is traced of them once they are away.
  std::uint64_t num_sent() const { return tracer_.totals()[static_cast<std::size_t>(Resource::send)].count; }

  InProcessWorld world_{2};
  std::unique_ptr<Transport> own_ = world_.transport(0), others_ = world_.transport(1);
  const ScratchPlace scratch_;
  const MemoryPieces pieces_ = link_pieces();
  const Budgets budgets_{GiB, GiB, GiB};
  TierMemory first_tiers_{pieces_, budgets_, Device{}, scratch_.path()};
  TierMemory last_tiers_{pieces_, budgets_, Device{}, scratch_.path()};
  Neighbours first_{own_.get(), first_tiers_, token_bytes};
  Neighbours last_{others_.get(), last_tiers_, token_bytes};
  Tracer tracer_;
  Tracer other_tracer_;
  const Surroundings around_{Device{}, Backend::native, tracer_, {}};
  const Surroundings others_around_{Device{}, Backend::native, other_tracer_, {}};
  TransferStream stores_{"stores", Stream::Mode::inline_tasks, around_, std::nullopt};
  TransferStream loads_{"loads", Stream::Mode::inline_tasks, others_around_, std::nullopt};
};

TEST_F(LinkTest, NobodyWaitsForASendWhosePlaceIsNotNeeded) {
  first_.announce(sweep(0));
  send(1);
  send(2);  // returns, though nobody receives
  EXPECT_EQ(num_sent(), 0U);
  ASSERT_TRUE(last_.next_sweep());
  EXPECT_EQ(receive(), 1);
  EXPECT_EQ(receive(), 2);
  first_.finish_sending(&tracer_);
  EXPECT_EQ(num_sent(), 2U);
}

TEST_F(LinkTest, TheNextSweepsStatesComeWhileThisOneIsComputed) {
  first_.announce(sweep(0));
  send(1);
  send(2);
  ASSERT_TRUE(last_.next_sweep());
  EXPECT_EQ(receive(), 1);
  EXPECT_EQ(receive(), 2);  // the last stage computes from now on
  last_.look_ahead();
  first_.announce(sweep(1));
  send(3);
  send(4);
  last_.look_ahead();
  first_.finish_sending(&tracer_);  // would wait for ever if nobody received
  EXPECT_EQ(num_sent(), 4U);
  const std::optional<SweepWork> next = last_.next_sweep();
  ASSERT_TRUE(next);
  EXPECT_EQ(next->number, 1);
  EXPECT_EQ(receive(), 3);
  EXPECT_EQ(receive(), 4);
}

TEST_F(LinkTest, MoreStatesThanPlacesComeInTheirOrder) {
  for (std::int64_t n = 0; n < 3; ++n) first_.announce(sweep(n));
  std::jthread sender([&] {
    for (std::uint8_t i = 0; i < 6; ++i) send(i);
    first_.finish_sending(&tracer_);
  });
  std::uint8_t wanted = 0;
  for (std::int64_t n = 0; n < 3; ++n) {
    const std::optional<SweepWork> work = last_.next_sweep();
    ASSERT_TRUE(work);
    EXPECT_EQ(work->number, n);
    last_.look_ahead();
    for (int k = 0; k < 2; ++k) EXPECT_EQ(receive(), wanted++);
  }
}

TEST(RingPlaces, ComeFreeInTheirOrderAndLieInOnePiece) {
  RingPlaces places(5 * cache_line_bytes);
  EXPECT_EQ(places.take(1), 0U);
  EXPECT_EQ(places.take(2 * cache_line_bytes), cache_line_bytes);
  EXPECT_EQ(places.take(cache_line_bytes), 3 * cache_line_bytes);
  EXPECT_FALSE(places.take(2 * cache_line_bytes));  // a line at the end, none at the begin
  places.free_oldest();
  EXPECT_FALSE(places.take(2 * cache_line_bytes));  // a line at either end
  places.free_oldest();
  EXPECT_EQ(places.take(2 * cache_line_bytes), 0U);
  EXPECT_EQ(places.take(0), 2 * cache_line_bytes);
  EXPECT_FALSE(places.take(1));
  places.free_oldest();
  EXPECT_EQ(places.take(1), 3 * cache_line_bytes);
  for (int i = 0; i < 3; ++i) places.free_oldest();
  EXPECT_EQ(places.take(5 * cache_line_bytes), 0U);
  EXPECT_FALSE(places.take(1));
}

// Room for two micro-batches of sixteen tokens each is room for four of two.
TEST_F(LinkTest, SmallMicroBatchesShareTheRoomOfLargeOnes) {
  MemoryPieces pieces;
  for (const Piece piece : {Piece::received_hidden, Piece::sent_hidden})
    pieces.add(piece, TierKind::dram, {16 * token_bytes, 2, cache_line_bytes});
  TierMemory first_tiers(pieces, budgets_, Device{}, scratch_.path());
  TierMemory last_tiers(pieces, budgets_, Device{}, scratch_.path());
  Neighbours first(own_.get(), first_tiers, token_bytes);
  Neighbours last(others_.get(), last_tiers, token_bytes);
  const std::array<std::byte, states_bytes> states{};
  for (std::int64_t n = 0; n < 2; ++n) {
    first.announce(sweep(n));
    for (int k = 0; k < 2; ++k)
      stores_.post([&](Transfer& transfer) { first.send_hidden(states.data(), states.size(), transfer); });
  }
  ASSERT_TRUE(last.next_sweep());
  last.look_ahead();
  ASSERT_TRUE(last.next_sweep());
  first.finish_sending(&tracer_);  // would wait for ever if not all four were being received
  EXPECT_EQ(num_sent(), 4U);
}

TEST_F(LinkTest, TheEndIsHeardOnce) {
  first_.announce(sweep(0));
  first_.announce_end();
  EXPECT_TRUE(last_.next_sweep());
  last_.look_ahead();
  last_.look_ahead();
  EXPECT_FALSE(last_.next_sweep());
  EXPECT_FALSE(last_.next_sweep());
}

TEST_F(LinkTest, StatesOfAnotherSizeThanAnnouncedAreRefused) {
  first_.announce(sweep(0));
  send(1);
  ASSERT_TRUE(last_.next_sweep());
  std::array<std::byte, states_bytes> states{};
  EXPECT_THROW(loads_.post([&](Transfer& transfer) { last_.receive_hidden(states.data(), token_bytes, transfer); }),
               InternalError);
}

// With as many blocks in flight as stages, a round of three stages over a wire of 20 ms takes two of them whatever the
// number of micro-batches, and each stage begins three sweeps in that time. A stage that waited for its two sends would
// begin one in 40 ms. What is computed takes next to nothing.
TEST(Pipeline, LatencyIsPaidOnceARound) {
  constexpr auto latency = 20ms;
  const ScratchPlace scratch;
  InProcessJob job;
  job.model = tiny_model();
  job.num_ranks = 3;
  job.policy.micro_batch_size = 2;
  job.policy.num_micro_batches = 4;
  job.policy.placement = make_placement({100, 0, 100, 0, 100, 0});
  for (std::int32_t r = 0; r < 24; ++r) job.prompts.push_back({1 + r, 2, 3});
  job.new_tokens = 8;
  job.keep_logits = false;
  job.offload_dir = scratch.path();
  job.make_source = [](int) { return make_random_source(); };
  const InProcessResult expected = run_in_process(job);
  job.decorate = [&](Transport& own) -> std::unique_ptr<Transport> {
    return std::make_unique<SlowTransport>(own, WireSpeed{latency, 1e9});
  };
  // Where the time goes is known: to the wires, not to loads.
  double idle_seconds = 0, load_seconds = 0;
  job.look_at = [&](const Stage& stage) {
    idle_seconds += stage.waits().seconds(Wait::receive) + stage.waits().seconds(Wait::turn);
    load_seconds += stage.waits().seconds(Wait::load);
  };
  std::chrono::duration<double> best{1e9};
  const std::chrono::duration<double> round = 3 * latency;  // two hops and the tokens' way back
  for (int i = 0; i < 3; ++i) {
    const auto begin = std::chrono::steady_clock::now();
    EXPECT_EQ(run_in_process(job).ids, expected.ids);
    best = std::min<std::chrono::duration<double>>(best, std::chrono::steady_clock::now() - begin);
  }
  EXPECT_GT(best, 8 * round) << "the wires are not slow";
  EXPECT_LT(best, 8 * round * 1.6);
  EXPECT_GT(idle_seconds, 3 * 3 * 8 * 0.5 * round.count()) << "of three ranks and runs";
  EXPECT_LT(load_seconds, 0.1 * idle_seconds);
}

}  // namespace
}  // namespace flexgen::test

#include "tests/comm/communicator_contract.hpp"

#include <gtest/gtest.h>

#include <string>

namespace flexgen::test {
namespace {

bool contains(const std::string& text, const std::string& part) { return text.find(part) != std::string::npos; }

}  // namespace

void check_gather_and_broadcast(Communicator& ranks) {
  // Any bytes, and lengths that differ.
  const auto text_of = [](int rank) {
    return std::string(static_cast<std::size_t>(rank * 1000), static_cast<char>(rank));
  };
  for (int round = 0; round < 50; ++round) {
    const auto all = ranks.all_gather(text_of(ranks.rank()));
    ASSERT_EQ(all.size(), static_cast<std::size_t>(ranks.size()));
    for (int r = 0; r < ranks.size(); ++r) EXPECT_EQ(all[static_cast<std::size_t>(r)], text_of(r));
    const int root = round % ranks.size();
    EXPECT_EQ(ranks.broadcast("from " + std::to_string(ranks.rank()), root), "from " + std::to_string(root));
  }
  ranks.barrier();
  EXPECT_EQ(ranks.place(ranks.rank()).host, host_name());
  EXPECT_LT(ranks.local_rank(), ranks.local_size());
  EXPECT_EQ(ranks.describe(0), "rank 0 on " + ranks.place(0).host);
}

void check_all_equal(Communicator& ranks) {
  EXPECT_NO_THROW(ranks.all_equal("the policy", "same"));
  const int odd_one = ranks.size() - 1;
  if (odd_one == 0) return;
  try {
    ranks.all_equal("the policy", ranks.rank() == odd_one ? std::string(500, 'x') : "abc");
    ADD_FAILURE() << "the difference was not seen";
  } catch (const AgreedError& error) {
    const std::string text = error.what();
    EXPECT_EQ(error.code(), ExitCode::communication);
    EXPECT_TRUE(contains(text, "differ in the policy")) << text;
    EXPECT_TRUE(contains(text, "'abc' on " + ranks.describe(0))) << text;
    EXPECT_TRUE(contains(text, "on " + ranks.describe(odd_one))) << text;
    EXPECT_LT(text.size(), 1000U);
    for (const std::string& other : ranks.all_gather(text)) EXPECT_EQ(other, text);
  }
}

void check_agreement(Communicator& ranks) {
  EXPECT_NO_THROW(ranks.agree_on_error([] {}));
  const int failing = ranks.size() - 1;
  // One rank fails: all throw its code and message, with its name where others are well.
  try {
    ranks.agree_on_error([&] {
      if (ranks.rank() == failing) throw UserError(ExitCode::model, "no shard", "not there");
    });
    ADD_FAILURE() << "the error was lost";
  } catch (const AgreedError& error) {
    EXPECT_EQ(error.code(), ExitCode::model);
    EXPECT_EQ(error.what(), (failing ? ranks.describe(failing) + ": " : "") + "no shard: not there");
  }
  // All fail alike: the message needs no rank.
  try {
    ranks.agree_on_error([] { throw std::runtime_error("odd"); });
    ADD_FAILURE() << "the error was lost";
  } catch (const AgreedError& error) {
    EXPECT_EQ(error.code(), ExitCode::internal);
    EXPECT_STREQ(error.what(), "internal error: odd");
  }
}

}  // namespace flexgen::test

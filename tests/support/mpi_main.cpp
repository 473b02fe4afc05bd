// GoogleTest main for programs started by mpirun: every rank runs the same tests, rank 0 prints as usual, the other
// ranks print their failures only, and the program fails on all ranks if it failed on any.
#include "tests/support/mpi_main.hpp"

#include <gtest/gtest.h>

#include <iostream>
#include <sstream>
#include <string>

namespace flexgen::test {
namespace {

MpiSession* session = nullptr;

class FailurePrinter : public ::testing::EmptyTestEventListener {
 public:
  explicit FailurePrinter(std::string who) : who_(std::move(who)) {}

  void OnTestPartResult(const ::testing::TestPartResult& result) override {
    if (!result.failed()) return;
    const ::testing::TestInfo* test = ::testing::UnitTest::GetInstance()->current_test_info();
    std::ostringstream line;  // one write, so that the lines of several ranks do not mix
    line << "[" << who_ << "] " << (test ? std::string(test->test_suite_name()) + "." + test->name() : "") << " at "
         << (result.file_name() ? result.file_name() : "?") << ":" << result.line_number() << "\n"
         << result.summary() << "\n";
    std::cerr << line.str() << std::flush;
  }

 private:
  std::string who_;
};

std::string current_test() {
  const ::testing::TestInfo* test = ::testing::UnitTest::GetInstance()->current_test_info();
  return test ? std::string(test->test_suite_name()) + "." + test->name() : "no test";
}

/// 0 if the tests passed on all ranks.
int run(Communicator& ranks) {
  if (ranks.rank() != 0) {
    auto& listeners = ::testing::UnitTest::GetInstance()->listeners();
    delete listeners.Release(listeners.default_result_printer());
    listeners.Append(new FailurePrinter(ranks.describe(ranks.rank())));
  }
  int status = RUN_ALL_TESTS();
  for (const std::string& other : ranks.all_gather(std::to_string(status)))
    if (other != "0") status = 1;
  return status;
}

}  // namespace

MpiSession& mpi_session() { return *session; }

}  // namespace flexgen::test

int main(int argc, char** argv) {
  ::testing::InitGoogleTest(&argc, argv);
  // An exception on one rank would leave the others waiting in the next collective: end the job instead.
  testing::GTEST_FLAG(catch_exceptions) = false;
  try {
    flexgen::MpiSession session(argc, argv);
    flexgen::test::session = &session;
    try {
      return flexgen::test::run(session.communicator());
    } catch (const std::exception& error) {
      return session.abort_job(flexgen::test::current_test() + ": " + error.what(), flexgen::ExitCode::internal);
    }
  } catch (const std::exception& error) {
    std::cerr << error.what() << std::endl;
    return 1;
  }
}

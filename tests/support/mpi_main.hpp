// The session of a test program that runs on several ranks; its main is mpi_main.cpp.
#pragma once

#include "comm/mpi_session.hpp"

namespace flexgen::test {

/// Valid while tests run; owned by main.
MpiSession& mpi_session();

}  // namespace flexgen::test

// What every communicator owes its users. Each function is run by all ranks of a world at once.
#pragma once

#include "comm/communicator.hpp"

namespace flexgen::test {

void check_gather_and_broadcast(Communicator& ranks);
void check_all_equal(Communicator& ranks);
void check_agreement(Communicator& ranks);

}  // namespace flexgen::test

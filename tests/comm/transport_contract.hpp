// What every host-memory transport owes its users. Each function is run by all ranks of a world at once.
#pragma once

#include "comm/communicator.hpp"
#include "comm/transport.hpp"

namespace flexgen::test {

struct TransportCheck {
  const char* name;
  void (*run)(Transport&, Communicator&);
};

void check_order(Transport& transport, Communicator& ranks);
void check_sizes(Transport& transport, Communicator& ranks);
void check_messages(Transport& transport, Communicator& ranks);
void check_messages_started_ahead(Transport& transport, Communicator& ranks);
void check_many_outstanding(Transport& transport, Communicator& ranks);
void check_channels_are_independent(Transport& transport, Communicator& ranks);
void check_large(Transport& transport, Communicator& ranks);
void check_wrong_size(Transport& transport, Communicator& ranks);
void check_abandoned_receive(Transport& transport, Communicator& ranks);
void check_threads(Transport& transport, Communicator& ranks);

inline constexpr TransportCheck transport_checks[] = {
    {"order", check_order},
    {"sizes", check_sizes},
    {"messages", check_messages},
    {"messages_started_ahead", check_messages_started_ahead},
    {"many_outstanding", check_many_outstanding},
    {"channels_are_independent", check_channels_are_independent},
    {"large", check_large},
    {"wrong_size", check_wrong_size},
    {"abandoned_receive", check_abandoned_receive},
    {"threads", check_threads},
};

}  // namespace flexgen::test

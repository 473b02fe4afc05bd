// Measures latency and bandwidth from one rank to the next over a transport.
#pragma once

#include "comm/communicator.hpp"
#include "comm/transport.hpp"
#include "device/device.hpp"
#include "spec/hardware_profile.hpp"

namespace flexgen {

/// Collective: ranks `from` and `from + 1` exchange messages on the channel of hidden states, the others wait. Every
/// rank gets the result. Device memory where the transport moves it (then `device` is this rank's GPU), else host
/// memory.
LinkProfile measure_link(Transport& transport, Communicator& ranks, int from, const Device& device, bool quick);

}  // namespace flexgen

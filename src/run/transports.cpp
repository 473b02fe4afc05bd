#include "run/transports.hpp"

#include <fmt/core.h>

#include <set>
#include <string>
#include <vector>

#include "base/error.hpp"
#include "comm/nccl_transport.hpp"

namespace flexgen {

bool one_gpu_each(const Device& device, Communicator& ranks) {
  if (!device.is_cuda()) return false;
  const std::string mine = fmt::format("{}/{}", ranks.place(ranks.rank()).node, pci_bus_id(device));
  const std::vector<std::string> all = ranks.all_gather(mine);
  return std::set<std::string>(all.begin(), all.end()).size() == all.size();
}

std::unique_ptr<Transport> open_nccl(MpiSession& session, std::unique_ptr<Transport> host, const Device& device) {
  return make_nccl_transport(session.communicator(), std::move(host),
                             {device.index, 120, [&session](const Error& error) {
                                session.abort_job(error.what(), ExitCode::communication);
                              }});
}

bool wants_nccl(const std::string& wanted, const Device& device, Communicator& ranks) {
  const bool distinct = one_gpu_each(device, ranks);
  return wanted == "nccl" || (wanted == "auto" && distinct && has_nccl());
}

std::unique_ptr<Transport> open_transport(MpiSession& session, const std::string& wanted, const Device& device) {
  Communicator& ranks = session.communicator();
  std::unique_ptr<Transport> host = session.make_transport();
  if (ranks.size() == 1) return host;
  const bool use_nccl = wants_nccl(wanted, device, ranks);
  if (use_nccl && !device.is_cuda())
    throw AgreedError(ExitCode::usage,
                      "--transport nccl cannot be honoured: the ranks compute on CPUs. Use --transport mpi");
  if (!use_nccl) return host;
  return open_nccl(session, std::move(host), device);
}

}  // namespace flexgen

#include "comm/nccl_transport.hpp"

namespace flexgen {

bool has_nccl() { return false; }

std::unique_ptr<Transport> make_nccl_transport(Communicator&, std::unique_ptr<Transport>, const NcclOptions&) {
  throw UserError(ExitCode::usage, "the NCCL transport is not available", "the program was built without NCCL",
                  "Use the MPI transport, or build with -DFLEXGEN_CUDA=ON -DFLEXGEN_NCCL=ON");
}

}  // namespace flexgen

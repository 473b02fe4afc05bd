// The program's commands: one function, one file each.
#pragma once

#include "app/options.hpp"
#include "comm/mpi_session.hpp"

namespace flexgen {

/// All return main's exit status. Collective.
int run_generate(MpiSession& session, const Options& options);
int run_score(MpiSession& session, const Options& options);
int run_bench(MpiSession& session, const Options& options);
int run_plan(MpiSession& session, const Options& options);
int run_profile(MpiSession& session, const Options& options);
int run_verify(MpiSession& session, const Options& options);
int run_doctor(MpiSession& session, const Options& options);

}  // namespace flexgen

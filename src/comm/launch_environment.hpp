// How this process was started: alone, or as one of many by an MPI launcher.
//
// The environment variables of mpirun, PMI, PMIx and Slurm are read here and nowhere else. Sources: Open MPI FAQ
// (OMPI_COMM_WORLD_*), PMI-2 and PMIx client environments, srun(1) "OUTPUT ENVIRONMENT VARIABLES".
#pragma once

#include <functional>
#include <optional>
#include <string>

namespace flexgen {

struct LaunchEnvironment {
  bool by_mpi_launcher = false;      // MPI_Init will find a launcher to talk to
  std::optional<int> expected_size;  // ranks that the launcher says it started
  int rank = 0;                      // that the launcher gave this process; 0 where it says nothing
  bool in_slurm_step = false;        // started by srun
};

/// Reads a variable: nullopt when unset. Tests pass their own.
using ReadVariable = std::function<std::optional<std::string>(const char* name)>;
std::optional<std::string> read_process_variable(const char* name);

LaunchEnvironment read_launch_environment(const ReadVariable& read = read_process_variable);

/// Throws UserError (communication) when MPI sees `world_size` ranks though the launcher started another number:
/// each of the N processes would do the whole job alone.
void check_world_size(const LaunchEnvironment& launch, int world_size);

/// Tells launch/mpirun.sh, by the file that it names in FLEXGEN_STOP_FILE, which process SIGUSR1 asks to stop early.
/// Under other launchers it does nothing.
void offer_early_stop(const std::string& host);
/// SIGUSR1 is not understood any more.
void withdraw_early_stop();

/// Ends this process as soon as its parent (mpirun, orted, slurmstepd) is gone, so that no rank is orphaned.
void end_with_launcher();

}  // namespace flexgen

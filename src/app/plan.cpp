// flexgen-dist plan: the best policy of a job on these machines or on others, before anything is run.
#include <unistd.h>

#include <vector>

#include "app/commands.hpp"
#include "app/job_lengths.hpp"
#include "base/error.hpp"
#include "job/figure_file.hpp"
#include "job/file_descriptor.hpp"
#include "run/model/model_folder.hpp"
#include "run/planning/job_plan.hpp"
#include "run/planning/placement_file.hpp"

namespace flexgen {

int run_plan(MpiSession& session, const Options& options) {
  Communicator& ranks = session.communicator();
  const ModelFolder folder = open_model(options.model, ranks, ModelUse::shape);
  std::vector<RowLengths> lengths;  // rank 0's
  ranks.agree_on_error([&] {
    if (ranks.rank() == 0) lengths = choose_lengths(options, folder.directory, folder.spec, ranks.size());
  });
  const JobToPlan job{folder.spec, shape_with_sharing(lengths), options.plan.profiles, options.plan.explain,
                      options.plan.more};
  const auto [report, best] = plan_for_report(options, job, ranks);
  if (ranks.rank() != 0) return static_cast<int>(ExitCode::ok);
  if (!options.files.quiet && options.files.report != "-") write_fully(STDOUT_FILENO, plan_text(report));
  if (!options.plan.save.empty() && !best.stages.empty()) write_placements(best, options.plan.save);
  if (!options.files.report.empty()) write_plan(report, options.files.report);
  return static_cast<int>(report.ways.empty() ? ExitCode::does_not_fit : ExitCode::ok);
}

}  // namespace flexgen

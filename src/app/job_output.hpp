// What generate and score share about their output: how it is asked for, and how a job ends that is done or stopped.
#pragma once

#include <filesystem>
#include <memory>
#include <optional>

#include "app/options.hpp"
#include "comm/communicator.hpp"
#include "job/output/result_writer.hpp"
#include "spec/model_spec.hpp"

namespace flexgen {

/// Takes the output of a job over rows, and goes on with what an earlier run has left of it. Throws UserError.
std::unique_ptr<ResultWriter> open_output(const Options& options, const std::filesystem::path& directory,
                                          const ModelSpec& model);

/// The exit status of a job that an earlier run has completed; nothing where there is something to do. Collective.
/// @param writer  rank 0's; may be null
std::optional<int> conclude_if_complete(const ResultWriter* writer, const OutputFiles& files, Communicator& ranks);

/// Rank 0, behind the run: completes the output, or, where an interrupt has ended the run before its last row, keeps
/// what is done; so, too, where the input broke off. Returns the exit status of an interrupted job. Throws UserError
/// (file).
/// @param num_rows  of the input, where it has been read
std::optional<int> finish_output(ResultWriter& writer, std::optional<std::uint64_t> num_rows, bool is_input_whole);

}  // namespace flexgen

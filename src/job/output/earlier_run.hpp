// What a journal and the files beside it say of an earlier run, after whatever has ended it.
//
// A journal's records are written before what they are about, so that a process that is killed leaves no line without
// one. A power cut may lose the end of either: a record counts if the file's own bytes agree with it. Bytes that a run
// has seen on the disk and that are others now were changed by somebody: nothing is cut then.
//
// Pure but for reading the files.
#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <string_view>

#include "job/output/journal.hpp"

namespace flexgen {

struct EarlierRun {
  bool is_readable = false;         // the journal has a head; what follows is empty otherwise
  JournalState state;               // what both agree on
  std::uint64_t num_lost_rows = 0;  // were done, but not all of their line has reached the disk
  std::string changed_file;         // the path of a file that somebody has changed; empty: none
};

/// @param paths  of the files of the output, by their number; empty: there is none of that number
EarlierRun read_earlier_run(std::string_view journal_text, const std::array<std::string, max_output_files>& paths);

}  // namespace flexgen

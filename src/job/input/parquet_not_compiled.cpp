#include <fmt/core.h>

#include "base/error.hpp"
#include "job/input/parquet_records.hpp"

namespace flexgen {

std::unique_ptr<RecordSource> open_parquet(const std::string& path, std::size_t /*max_record_bytes*/) {
  throw UserError(
      ExitCode::file, fmt::format("cannot read rows from {}", display_name(path)),
      "it is a Parquet file, and this program was built without Arrow",
      "Write its rows as JSONL: python3 -c 'import json, sys, pyarrow.parquet as p; [print(json.dumps(row, "
      "default=str)) for batch in p.ParquetFile(sys.argv[1]).iter_batches() for row in batch.to_pylist()]' IN > OUT; "
      "or build with Arrow's C++ libraries and -DFLEXGEN_ARROW=ON");
}

}  // namespace flexgen

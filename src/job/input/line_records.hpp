// The lines of a JSONL text that are not blank.
//
// Private to the room. One thread reads.
#pragma once

#include <string>

#include "job/input/record_source.hpp"

namespace flexgen {

class LineRecords final : public RecordSource {
 public:
  /// @param max_line_bytes  what a line has beyond is read and dropped: it costs that row
  LineRecords(std::unique_ptr<InputText> text, std::size_t max_line_bytes)
      : text_(std::move(text)), max_line_bytes_(max_line_bytes) {}

  bool next(Record& record) override;
  std::optional<Extent> extent() const override;
  void interrupt() override { text_->file().interrupt(); }

 private:
  enum class LineStatus { line, too_long, end };
  LineStatus read_line();

  std::unique_ptr<InputText> text_;
  std::size_t max_line_bytes_;
  std::string line_;
  std::size_t line_number_ = 0;
};

}  // namespace flexgen

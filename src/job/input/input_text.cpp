#include "job/input/input_text.hpp"

#include <utility>

#include "base/bytes.hpp"
#include "job/input/packed_input.hpp"

namespace flexgen {
namespace {

constexpr std::size_t read_bytes = 256 * KiB;
constexpr std::size_t mark_bytes = 4;  // of the longest mark of a packed file
constexpr std::string_view byte_order_mark = "\xEF\xBB\xBF";

}  // namespace

InputText::InputText(const std::string& path) : buffer_(read_bytes) {
  auto file = std::make_unique<InputFile>(path);
  file_ = file.get();
  source_ = std::move(file);
  while (end_ < mark_bytes && read_more()) {
  }
  if (const Packing packing = packing_of_content(unread()); packing != Packing::none) {
    source_ = unpack(packing, unread(), std::move(source_));
    end_ = 0;
  }
  read_beginning();
  if (unread().starts_with(byte_order_mark)) skip(byte_order_mark.size());
}

void InputText::read_beginning() {
  try {
    while (end_ < buffer_.size() && read_more()) {
    }
  } catch (const InputFault&) {
    if (end_ == 0) throw;
    fault_ = std::current_exception();
  }
}

bool InputText::refill() {
  begin_ = end_ = 0;
  return read_more();
}

bool InputText::read_more() {
  if (fault_) std::rethrow_exception(fault_);
  const std::size_t count = source_->read(std::span(buffer_).subspan(end_));
  end_ += count;
  return count > 0;
}

}  // namespace flexgen

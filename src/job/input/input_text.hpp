// The text of an input, unpacked, through a buffer.
//
// Private to the room. Owns the file. One thread reads; InputFile says what others may call.
#pragma once

#include <exception>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "job/input/input_file.hpp"

namespace flexgen {

class InputText {
 public:
  /// Reads the beginning, and waits for it. Throws UserError (file), and InputFault where there is none; a fault behind
  /// that is kept until the text before it has been skipped.
  explicit InputText(const std::string& path);

  /// The beginning of the text, a UTF-8 byte-order mark left out: before anything is skipped.
  std::string_view head() const { return unread(); }
  /// That is all of it.
  bool head_is_whole() const { return end_ < buffer_.size() && !fault_; }

  std::string_view unread() const { return {buffer_.data() + begin_, end_ - begin_}; }
  void skip(std::size_t count) { begin_ += count; }
  /// Once all is skipped. False at the end of the text. Throws InputFault.
  bool refill();

  InputFile& file() { return *file_; }

 private:
  void read_beginning();
  bool read_more();

  std::unique_ptr<ByteSource> source_;
  InputFile* file_;  // source_, or what it unpacks
  std::vector<char> buffer_;
  std::size_t begin_ = 0, end_ = 0;  // of what is unread
  std::exception_ptr fault_;         // behind what was read
};

}  // namespace flexgen

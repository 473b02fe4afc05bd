#include "text/stop_matcher.hpp"

#include <algorithm>

namespace flexgen {

StopMatcher::StopMatcher(std::vector<std::string> stop_strings) : stop_strings_(std::move(stop_strings)) {
  std::erase_if(stop_strings_, [](const std::string& stop) { return stop.empty(); });
  for (const std::string& stop : stop_strings_) max_length_ = std::max(max_length_, stop.size());
}

bool StopMatcher::push(std::string_view piece) {
  if (stopped_) return true;
  text_ += piece;
  // No stop string begins before safe_length_: such a beginning would have been held back.
  std::size_t first = std::string::npos;
  for (const std::string& stop : stop_strings_) first = std::min(first, text_.find(stop, safe_length_));
  if (first != std::string::npos) {
    text_.resize(first);
    safe_length_ = first;
    stopped_ = true;
  } else {
    safe_length_ = text_.size() - pending_length();
  }
  return stopped_;
}

std::size_t StopMatcher::pending_length() const {
  if (max_length_ == 0) return 0;
  const std::string_view text = text_;
  for (std::size_t length = std::min(max_length_ - 1, text.size() - safe_length_); length > 0; --length) {
    const std::string_view tail = text.substr(text.size() - length);
    for (const std::string& stop : stop_strings_) {
      if (stop.size() > length && stop.starts_with(tail)) return length;
    }
  }
  return 0;
}

}  // namespace flexgen

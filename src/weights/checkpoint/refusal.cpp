#include "weights/checkpoint/refusal.hpp"

#include <fmt/core.h>

#include "base/error.hpp"

namespace flexgen::checkpoint {

namespace {
constexpr std::string_view default_suggestion = "Download or save the checkpoint again";
}

std::string quote_name(std::string_view name) {
  constexpr std::size_t max_bytes = 160;
  std::string text = "'";
  for (const char c : name.substr(0, max_bytes)) {
    const auto byte = static_cast<unsigned char>(c);
    if (byte < 0x20 || byte == 0x7f) {
      text += fmt::format("\\x{:02x}", byte);
    } else {
      text += c;
    }
  }
  if (name.size() > max_bytes) text += "...";
  return text + "'";
}

void refuse_file(std::string_view file, std::string_view reason, std::string_view suggestion) {
  throw UserError(ExitCode::model, fmt::format("cannot read checkpoint file {}", quote_name(file)), reason,
                  suggestion.empty() ? default_suggestion : suggestion);
}

void refuse_tensor(std::string_view file, std::string_view key, std::string_view reason, std::string_view suggestion) {
  throw UserError(ExitCode::model,
                  fmt::format("cannot use tensor {} of checkpoint file {}", quote_name(key), quote_name(file)), reason,
                  suggestion.empty() ? default_suggestion : suggestion);
}

}  // namespace flexgen::checkpoint

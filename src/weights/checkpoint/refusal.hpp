// The errors of the checkpoint readers: always UserError (model), always naming the file.
//
// Names that come out of a file are hostile until shown otherwise, so they are escaped and cut before they are
// printed.
#pragma once

#include <string>
#include <string_view>

namespace flexgen::checkpoint {

/// 'name' in quotes: control bytes escaped, cut after 160 bytes.
std::string quote_name(std::string_view name);

/// "cannot read checkpoint file 'x': reason. suggestion"
[[noreturn]] void refuse_file(std::string_view file, std::string_view reason, std::string_view suggestion = "");

/// "cannot use tensor 'key' of checkpoint file 'x': reason. suggestion"
[[noreturn]] void refuse_tensor(std::string_view file, std::string_view key, std::string_view reason,
                                std::string_view suggestion = "");

}  // namespace flexgen::checkpoint

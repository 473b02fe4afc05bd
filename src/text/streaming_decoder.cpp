#include "text/tokenizer.hpp"

namespace flexgen {

std::string StreamingDecoder::push(std::int32_t id) {
  std::string text;
  if (!skip_special_ || !tokenizer_->is_special(id)) repairer_.push(tokenizer_->bytes_of(id), text);
  return text;
}

std::string StreamingDecoder::finish() {
  std::string text;
  repairer_.finish(text);
  return text;
}

}  // namespace flexgen

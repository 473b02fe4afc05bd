#include "spec/model_spec.hpp"

#include <fmt/format.h>
#include <fmt/ranges.h>

namespace flexgen {

std::string fingerprint(const ModelSpec& s) {
  std::string text = fmt::format("{}:{}x{}v{}p{}", s.family, s.num_layers, s.hidden, s.vocab, s.max_positions);
  text += fmt::format(" embedding {}/{}", s.embedding.width, s.embedding.first_position);
  text += fmt::format(" attention {}/{}x{}*{}b{}", s.attention.heads, s.attention.kv_heads, s.attention.head_size,
                      s.attention.scale, s.attention.bias);
  text += fmt::format(" mlp {}a{}b{}", s.mlp.width, static_cast<int>(s.mlp.activation), s.mlp.bias);
  text += fmt::format(" norm {}a{}", s.norm.epsilon, s.norm.affine);
  text += fmt::format(" residual {} head {}t{}", static_cast<int>(s.residual), s.head.norm, s.head.tied);
  text += fmt::format(" tokens {}/{}/{}", s.bos_token, fmt::join(s.eos_tokens, ","), s.pad_token);
  text += fmt::format(" compression {}/{}", s.compression.bits, s.compression.group);
  return text;
}

}  // namespace flexgen

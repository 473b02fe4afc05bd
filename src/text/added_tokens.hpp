// Tokens that stand outside the byte pairs ("</s>", "<pad>"): found literally in the text before anything else.
//
// Immutable and thread-safe. Source: behaviour of Hugging Face tokenizers' added vocabulary: leftmost, then longest;
// tokens that are not `normalized` first, the others in what is left.
#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace flexgen {

struct AddedToken {
  std::string content;
  std::int32_t id = -1;
  bool lstrip = false;      // swallows white space before it
  bool rstrip = false;      // swallows white space after it
  bool normalized = false;  // matched in the second pass
  bool special = false;     // left out by decode(skip_special)
};

class AddedTokenSplitter {
 public:
  explicit AddedTokenSplitter(std::vector<AddedToken> tokens);

  /// A stretch of the text: an added token (its id), or plain text (id -1) for the byte pairs.
  struct Piece {
    std::string_view text;
    std::int32_t id;
  };
  /// Cuts well-formed UTF-8 into pieces; views into `text`.
  std::vector<Piece> split(std::string_view text) const;

 private:
  struct Pass {
    std::array<std::vector<std::uint32_t>, 256> by_first_byte;  // indices of tokens, the longest first
    bool empty = true;
  };
  void split_pass(const Pass& pass, std::string_view text, std::vector<Piece>& pieces) const;
  const AddedToken* match(const Pass& pass, std::string_view text) const;

  std::vector<AddedToken> tokens_;
  std::array<Pass, 2> passes_;
};

}  // namespace flexgen

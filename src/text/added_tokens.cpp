#include "text/added_tokens.hpp"

#include <algorithm>

#include "text/pre_tokenizer.hpp"
#include "text/utf8.hpp"

namespace flexgen {
namespace {

std::size_t leading_whitespace_bytes(std::string_view text) {
  std::string_view rest = text;
  while (!rest.empty()) {
    std::string_view after = rest;
    if (!is_whitespace(take_code_point(after))) break;
    rest = after;
  }
  return text.size() - rest.size();
}

std::size_t trailing_whitespace_bytes(std::string_view text) {
  std::size_t begin = text.size();
  while (begin > 0) {
    std::size_t at = begin - 1;
    while (at > 0 && (static_cast<unsigned char>(text[at]) & 0xC0) == 0x80) --at;
    std::string_view last = text.substr(at);
    if (!is_whitespace(take_code_point(last))) break;
    begin = at;
  }
  return text.size() - begin;
}

}  // namespace

AddedTokenSplitter::AddedTokenSplitter(std::vector<AddedToken> tokens) : tokens_(std::move(tokens)) {
  for (std::uint32_t i = 0; i < tokens_.size(); ++i) {
    if (tokens_[i].content.empty()) continue;
    Pass& pass = passes_[tokens_[i].normalized ? 1 : 0];
    pass.by_first_byte[static_cast<std::uint8_t>(tokens_[i].content[0])].push_back(i);
    pass.empty = false;
  }
  for (Pass& pass : passes_) {
    for (auto& candidates : pass.by_first_byte) {
      std::ranges::stable_sort(candidates, std::greater<>{},
                               [&](std::uint32_t i) { return tokens_[i].content.size(); });
    }
  }
}

const AddedToken* AddedTokenSplitter::match(const Pass& pass, std::string_view text) const {
  for (std::uint32_t i : pass.by_first_byte[static_cast<std::uint8_t>(text[0])]) {
    if (text.starts_with(tokens_[i].content)) return &tokens_[i];
  }
  return nullptr;
}

void AddedTokenSplitter::split_pass(const Pass& pass, std::string_view text, std::vector<Piece>& pieces) const {
  std::size_t done = 0;  // what lies before is in a piece
  for (std::size_t at = 0; at < text.size();) {
    const AddedToken* token = match(pass, text.substr(at));
    if (token == nullptr) {
      ++at;
      continue;
    }
    std::size_t begin = at;
    std::size_t end = at + token->content.size();
    at = end;  // the search goes on here even when white space after it is swallowed, as in the reference
    if (token->lstrip)
      begin -= std::min(trailing_whitespace_bytes(text.substr(0, begin)), begin - std::min(done, begin));
    if (token->rstrip) end += leading_whitespace_bytes(text.substr(end));
    if (done < begin) pieces.push_back({text.substr(done, begin - done), -1});
    pieces.push_back({text.substr(begin, end - begin), token->id});
    done = end;
  }
  if (done < text.size()) pieces.push_back({text.substr(done), -1});
}

std::vector<AddedTokenSplitter::Piece> AddedTokenSplitter::split(std::string_view text) const {
  std::vector<Piece> pieces;
  if (!text.empty()) pieces.push_back({text, -1});
  for (const Pass& pass : passes_) {
    if (pass.empty) continue;
    std::vector<Piece> finer;
    for (const Piece& piece : pieces) {
      if (piece.id < 0) {
        split_pass(pass, piece.text, finer);
      } else {
        finer.push_back(piece);
      }
    }
    pieces = std::move(finer);
  }
  return pieces;
}

}  // namespace flexgen

// PCRE2 as this room uses it (on bytes), and owners of what it hands out: compiled patterns, and what a search writes
// its matches into.
//
// Thread-safety: a pattern serves any number of searches at once, match data one.
#pragma once

#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>

#include <memory>

namespace flexgen {

struct FreePattern {
  void operator()(pcre2_code* code) const { pcre2_code_free(code); }
};
using CompiledPattern = std::unique_ptr<pcre2_code, FreePattern>;

struct FreeMatchData {
  void operator()(pcre2_match_data* data) const { pcre2_match_data_free(data); }
};
using MatchData = std::unique_ptr<pcre2_match_data, FreeMatchData>;

}  // namespace flexgen

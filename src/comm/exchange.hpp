// Plain structs between ranks, in their JSON form (base/json_fields.hpp). Collective.
#pragma once

#include <vector>

#include "base/json_fields.hpp"
#include "comm/communicator.hpp"

namespace flexgen {

/// That of `root`, on every rank.
template <class T>
T share(Communicator& ranks, const T& own, int root = 0) {
  return from_json_text<T>(ranks.broadcast(ranks.rank() == root ? to_json_text(own) : "", root));
}

/// By rank.
template <class T>
std::vector<T> gather(Communicator& ranks, const T& own) {
  std::vector<T> all;
  all.reserve(static_cast<std::size_t>(ranks.size()));
  for (const std::string& text : ranks.all_gather(to_json_text(own))) all.push_back(from_json_text<T>(text));
  return all;
}

}  // namespace flexgen

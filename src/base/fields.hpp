// The fields of plain structs, each listed once in the struct itself; base/json_fields.hpp makes JSON of them.
//
//   struct CopyRate {
//     std::uint64_t chunk_bytes = 0;
//     double bytes_per_second = 0;
//     static constexpr auto fields() {
//       return std::tuple(field("chunk_bytes", &CopyRate::chunk_bytes), field("bytes_per_second", ...));
//     }
//   };
#pragma once

#include <tuple>
#include <type_traits>

namespace flexgen {

template <class Struct, class Value>
struct Field {
  const char* name;
  Value Struct::*member;
};

template <class Struct, class Value>
constexpr Field<Struct, Value> field(const char* name, Value Struct::*member) {
  return {name, member};
}

template <class T>
concept HasFields = requires {
  T::fields();
};

/// Calls visit(name, value) for every field in the order of the list; values are references.
template <class Struct, class Visitor>
void visit_fields(Struct& object, const Visitor& visit) {
  std::apply([&](const auto&... fields) { (visit(fields.name, object.*(fields.member)), ...); },
             std::remove_const_t<Struct>::fields());
}

}  // namespace flexgen

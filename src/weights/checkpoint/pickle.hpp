// A pickle machine for state dicts: it builds plain values, runs no code, and knows a short list of globals.
//
// Values lie in one array and point at each other by index, so that neither cycles nor depth matter to copying or
// destruction. Memory is bounded by a small multiple of the pickle's size (at most max_pickle_bytes).
// Source: the opcode table of CPython's Lib/pickletools.py; PyTorch's torch/_utils.py for the rebuild functions.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/bytes.hpp"

namespace flexgen::checkpoint {

inline constexpr std::uint64_t max_pickle_bytes = 32 * MiB;
inline constexpr std::size_t max_num_pickle_values = std::size_t{2} << 20;

using PickleId = std::uint32_t;

/// What an allowed global stands for.
enum class GlobalRole : std::uint8_t {
  ordered_dict,
  rebuild_tensor,
  rebuild_tensor_with_dtype,
  rebuild_parameter,
  storage,
  dtype
};

struct AllowedGlobal {
  std::string_view module;
  std::string_view name;
  GlobalRole role{};
  std::string_view dtype;  // storage and dtype: element type
  std::uint64_t element_bytes = 0;
};
std::span<const AllowedGlobal> allowed_globals();

enum class PickleKind : std::uint8_t {
  none,
  boolean,
  integer,
  opaque,  // a value of no interest: float, bytes, wide integer
  text,
  tuple,    // items
  list,     // items
  dict,     // items: key, value, key, value ... in order of insertion, repeated keys kept
  global,   // integer: index in allowed_globals()
  storage,  // items: 'storage', global, key text, location, number of elements
  tensor,   // items: arguments of _rebuild_tensor_v2 / _v3; integer: 1 when the dtype is among them (_v3)
};

struct PickleValue {
  PickleKind kind = PickleKind::none;
  std::int64_t integer = 0;
  std::string_view text{};  // into the pickle's bytes
  std::vector<PickleId> items{};
};

struct Pickle {
  std::vector<PickleValue> values;
  PickleId root = 0;
  const PickleValue& operator[](PickleId id) const { return values[id]; }
};

/// Runs protocol 2 to 5. The result's texts point into `bytes`. Throws UserError (model) naming `file` on anything
/// malformed, on an opcode that state dicts do not need, and on any global that is not allowed.
Pickle parse_pickle(std::span<const std::byte> bytes, const std::string& file);

}  // namespace flexgen::checkpoint

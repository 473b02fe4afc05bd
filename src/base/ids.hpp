// Strong integer ids: a LayerId is never mistaken for a RankId.
#pragma once

#include <compare>
#include <cstdint>
#include <functional>

namespace flexgen {

template <class Tag, class Value = std::int32_t>
struct Id {
  Value value = 0;

  constexpr Id() = default;
  constexpr explicit Id(Value v) : value(v) {}
  constexpr auto operator<=>(const Id&) const = default;
  constexpr std::size_t index() const { return static_cast<std::size_t>(value); }
};

/// Index of a layer in the slice that a sweep walks (0 = first layer of the slice).
using LayerId = Id<struct LayerTag>;
/// Index of a micro-batch within its block (0 .. K-1).
using MicroBatchId = Id<struct MicroBatchTag>;
/// MPI rank; also the position of a stage in the pipeline.
using RankId = Id<struct RankTag>;
/// A block in flight in the pipeline.
using GroupId = Id<struct GroupTag>;
/// One sequence being generated; unique in the job.
using RowId = Id<struct RowTag, std::int64_t>;

}  // namespace flexgen

template <class Tag, class Value>
struct std::hash<flexgen::Id<Tag, Value>> {
  std::size_t operator()(const flexgen::Id<Tag, Value>& id) const noexcept { return std::hash<Value>{}(id.value); }
};

// What a value of an Arrow column is in JSON.
//
// Numbers, truth values, texts and nulls are what they are; what dictionaries stand for, lists, structs and maps (an
// object where its keys are texts) are made of these. Dates and times are ISO 8601 ("2024-05-01T12:30:00.250Z"; of a
// timestamp with a zone that is UTC), UUIDs their hexadecimal form, all else (decimals, durations, ...) Arrow's own
// text. A number that is not finite is null; a float has the digits that tell it from its neighbours.
//
// Private to the room; compiled where Arrow is. Pure.
#pragma once

#include <cstdint>
#include <nlohmann/json.hpp>

namespace arrow {
class Array;
}

namespace flexgen {

/// A text that is no UTF-8.
struct NoUtf8 {};

/// Throws NoUtf8, and std::runtime_error where Arrow cannot show the value.
nlohmann::json column_value(const arrow::Array& column, std::int64_t row);

}  // namespace flexgen

#include "job/broken_row.hpp"

#include <algorithm>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>

#include "job/json_text.hpp"

namespace flexgen {
namespace {

using Member = JsonOutline::Member;

const Member* find(const JsonOutline& outline, std::string_view quoted_key) {
  const auto found = std::ranges::find(outline.members, quoted_key, &Member::key);
  return found == outline.members.end() ? nullptr : &*found;
}

// As looks_like_batch of request.cpp, for a row that may end before it has said all of it.
bool may_be_batch(const JsonOutline& outline) {
  const Member* body = find(outline, "\"body\"");
  const bool has_method = find(outline, "\"method\"") != nullptr;
  const bool has_url = find(outline, "\"url\"") != nullptr;
  if (body && body->value.starts_with('{')) return true;
  if (has_method && has_url) return true;
  return (has_method || has_url || body) && !find(outline, "\"prompt\"");
}

std::optional<std::string> find_id(std::string_view line, const JsonOutline& outline) {
  // A quote that is not escaped makes text look like members. Where more than one id might be meant, none is taken.
  if (line.find("custom_id", outline.end_at) != std::string_view::npos) return std::nullopt;
  const Member* id = nullptr;
  for (const Member& member : outline.members) {
    if (member.key != "\"custom_id\"") continue;
    if (!member.is_whole || (id && id->value != member.value)) return std::nullopt;
    id = &member;
  }
  if (!id) return std::nullopt;
  const auto value = nlohmann::json::parse(id->value, nullptr, false);
  if (!value.is_string() || value.get_ref<const std::string&>().empty()) return std::nullopt;
  return value.get<std::string>();
}

}  // namespace

void identify_broken_row(std::string_view line, RowIdentity& row) {
  const JsonOutline outline = outline_json(line);
  row.batch_format = may_be_batch(outline);
  if (std::optional<std::string> id = find_id(line, outline)) {
    row.custom_id = std::move(*id);
    row.names_itself = true;
  }
}

}  // namespace flexgen

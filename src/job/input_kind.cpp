#include "job/input_kind.hpp"

#include <fmt/core.h>

#include <algorithm>
#include <array>
#include <vector>

#include "job/json_text.hpp"

namespace flexgen {
namespace {

using namespace std::string_view_literals;

constexpr std::string_view blanks = " \t\r\n\v\f";

struct Signature {
  std::string_view bytes;
  std::string_view what;
  std::string_view remedy;
};

constexpr std::array signatures{
    Signature{"\x1F\x8B"sv, "it is a gzip file", "Unpack it first: gzip -d"},
    Signature{"\x28\xB5\x2F\xFD"sv, "it is a zstd file", "Unpack it first: zstd -d"},
    Signature{"PK\x03\x04"sv, "it is a zip archive (spreadsheets are, too)",
              "Unpack it first: unzip; of a spreadsheet, export the rows as JSONL"},
    Signature{"PK\x05\x06"sv, "it is an empty zip archive", "Give a file with one JSON object per line"},
    Signature{"\xFD\x37zXZ\0"sv, "it is an xz file", "Unpack it first: xz -d"},
    Signature{"BZh91AY&SY"sv, "it is a bzip2 file", "Unpack it first: bzip2 -d"},
    Signature{"\x04\x22\x4D\x18"sv, "it is an lz4 file", "Unpack it first: lz4 -d"},
    Signature{"7z\xBC\xAF\x27\x1C"sv, "it is a 7z archive", "Unpack it first: 7z x"},
    Signature{"PAR1"sv, "it is a Parquet file", "Give it as a file, with --input-format auto or parquet"},
    Signature{"ARROW1"sv, "it is an Arrow file",
              "Write one JSON object per line, e.g. with pandas: read_feather(IN).to_json(OUT, orient=\"records\", "
              "lines=True)"},
    Signature{"SQLite format 3\0"sv, "it is an SQLite database", "Write its rows as one JSON object per line"},
    Signature{"%PDF-"sv, "it is a PDF file", "Write its text as one JSON object per line"},
    // The longer marks first: that of UTF-16 begins that of UTF-32.
    Signature{"\xFF\xFE\0\0"sv, "it is UTF-32 text", "Convert it first: iconv -f UTF-32 -t UTF-8"},
    Signature{"\0\0\xFE\xFF"sv, "it is UTF-32 text", "Convert it first: iconv -f UTF-32 -t UTF-8"},
    Signature{"\xFF\xFE"sv, "it is UTF-16 text", "Convert it first: iconv -f UTF-16 -t UTF-8"},
    Signature{"\xFE\xFF"sv, "it is UTF-16 text", "Convert it first: iconv -f UTF-16 -t UTF-8"},
};

std::optional<WrongKind> find_signature(std::string_view head) {
  for (const Signature& signature : signatures)
    if (head.starts_with(signature.bytes)) return WrongKind{std::string(signature.what), std::string(signature.remedy)};
  constexpr std::size_t tar_mark_at = 257;
  if (head.size() > tar_mark_at && head.substr(tar_mark_at).starts_with("ustar"))
    return WrongKind{"it is a tar archive", "Unpack it first: tar -xf"};
  return std::nullopt;
}

/// Rows begin with characters of ASCII, so zeros stand where a wider encoding without a mark has its upper bytes.
std::optional<WrongKind> find_wide_text(std::string_view head) {
  if (head.size() < 4) return std::nullopt;
  std::string zeros;
  for (const char c : head.substr(0, 4)) zeros += c == '\0' ? '0' : 'x';
  const std::string_view encoding = zeros == "x000"   ? "UTF-32LE"
                                    : zeros == "000x" ? "UTF-32BE"
                                    : zeros == "x0x0" ? "UTF-16LE"
                                    : zeros == "0x0x" ? "UTF-16BE"
                                                      : "";
  if (encoding.empty()) return std::nullopt;
  return WrongKind{fmt::format("it is {} text", encoding.substr(0, 6)),
                   fmt::format("Convert it first: iconv -f {} -t UTF-8", encoding)};
}

std::vector<std::string_view> split_lines(std::string_view text, char separator) {
  std::vector<std::string_view> lines;  // without blank ones
  while (!text.empty()) {
    const std::size_t end = std::min(text.find(separator), text.size());
    const std::string_view line = text.substr(0, end);
    if (line.find_first_not_of(blanks) != std::string_view::npos)
      lines.push_back(line.substr(line.find_first_not_of(blanks)));
    text.remove_prefix(std::min(end + 1, text.size()));
  }
  return lines;
}

bool is_blank(std::string_view text) { return text.find_first_not_of(blanks) == std::string_view::npos; }

bool is_object(std::string_view line) {
  if (!line.starts_with('{')) return false;
  const JsonOutline outline = outline_json(line);
  return outline.end == JsonOutline::End::complete && is_blank(line.substr(outline.end_at));
}

bool is_binary(std::string_view head) {
  const std::string_view sample = head.substr(0, 4096);
  const auto is_control = [](char c) {
    return static_cast<unsigned char>(c) < 0x20 && blanks.find(c) == std::string_view::npos && c != '\x1B';
  };
  return static_cast<std::size_t>(std::ranges::count_if(sample, is_control)) * 50 >= sample.size();
}

/// One value over several lines, or a list of the rows: valid JSON, but not a row per line.
std::optional<WrongKind> find_one_document(std::string_view text, bool is_whole, bool has_rows) {
  if (!text.starts_with('[') && !text.starts_with('{')) return std::nullopt;
  const JsonOutline outline = outline_json(text);
  const bool is_complete = outline.end == JsonOutline::End::complete;
  const bool is_cut = outline.end == JsonOutline::End::cut && (!is_whole || !has_rows);
  if (!is_complete && !is_cut) return std::nullopt;
  if (text.starts_with('[')) {
    if (is_complete && !is_blank(text.substr(outline.end_at))) return std::nullopt;  // a list per line: bad rows
    return WrongKind{"it is one JSON array", "Write one object per line, e.g. with jq -c '.[]'"};
  }
  // A row that is torn at the end of its line has the next one in it, and is broken by the one after that.
  if (split_lines(text.substr(0, outline.end_at), '\n').size() < (is_complete ? 2U : 3U)) return std::nullopt;
  return WrongKind{"its JSON objects go over several lines", "Write one object per line, e.g. with jq -c ."};
}

std::optional<WrongKind> find_table(const std::vector<std::string_view>& lines) {
  for (const char separator : {'\t', ',', ';'}) {
    const auto num_columns = [separator](std::string_view line) { return std::ranges::count(line, separator) + 1; };
    if (num_columns(lines[0]) < 2 || (lines.size() > 1 && num_columns(lines[1]) < num_columns(lines[0]))) continue;
    const bool is_tsv = separator == '\t';
    return WrongKind{
        is_tsv ? "it looks like a table (TSV)" : "it looks like a table (CSV)",
        fmt::format("Give --input-format {0}, or the file a name that ends in .{0}", is_tsv ? "tsv" : "csv")};
  }
  return std::nullopt;
}

}  // namespace

std::optional<WrongKind> find_foreign_kind(std::string_view head) {
  if (auto kind = find_signature(head)) return kind;
  return find_wide_text(head);
}

std::optional<WrongKind> find_wrong_kind(std::string_view head, bool is_whole) {
  if (auto kind = find_foreign_kind(head)) return kind;
  if (is_blank(head)) return std::nullopt;

  const std::vector<std::string_view> lines = split_lines(head, '\n');
  const bool has_rows = std::ranges::any_of(lines, is_object);
  const std::string_view text = head.substr(head.find_first_not_of(blanks));
  if (auto kind = find_one_document(text, is_whole, has_rows)) return kind;
  if (has_rows) return std::nullopt;
  if (lines.size() == 1 && std::ranges::any_of(split_lines(head, '\r'), is_object))
    return WrongKind{"its lines end with CR alone", "Convert it first: tr '\\r' '\\n'"};
  if (is_binary(head)) return WrongKind{"it is a binary file", "Give a file with one JSON object per line"};
  if (std::ranges::any_of(lines, [](std::string_view line) { return line.starts_with('{'); })) return std::nullopt;
  if (!is_whole && lines.size() == 1) return std::nullopt;  // of a long line that may be bad alone
  if (auto kind = find_table(lines)) return kind;
  return WrongKind{"no line of it is a JSON object", "Write one object per line, {\"prompt\": \"...\"}"};
}

}  // namespace flexgen

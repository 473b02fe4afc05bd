#include "job/output/journal_record.hpp"

#include <fmt/format.h>
#include <zlib.h>

#include <charconv>
#include <cstdlib>
#include <iterator>
#include <nlohmann/json.hpp>

namespace flexgen {
namespace {

constexpr int format_version = 1;
constexpr std::size_t checksum_digits = 8;

/// The words of a record, one by one; a word that is not what it should be spoils all that follow.
class Words {
 public:
  explicit Words(std::string_view text) : rest_(text) {}

  template <class Number>
  Number number(int base = 10) {
    Number value{};
    const std::string_view word = next();
    const auto [end, error] = std::from_chars(word.data(), word.data() + word.size(), value, base);
    is_good_ = is_good_ && error == std::errc() && end == word.data() + word.size();
    return value;
  }
  double real() {
    const std::string word(next());
    char* end = nullptr;
    const double value = std::strtod(word.c_str(), &end);
    is_good_ = is_good_ && !word.empty() && *end == '\0';
    return value;
  }
  std::size_t file() {
    const auto file = number<std::size_t>();
    is_good_ = is_good_ && file < max_output_files;
    return is_good_ ? file : 0;
  }
  FilePrefix prefix() {
    const auto end_bytes = number<std::uint64_t>();
    return {end_bytes, number<std::uint32_t>(16)};
  }
  RowOutcome outcome() {
    const bool has_failed = number<int>() != 0;
    const double log_probability = real();
    return {has_failed, log_probability, number<std::uint64_t>()};
  }
  std::string_view next() {
    const std::size_t space = rest_.find(' ');
    const std::string_view word = rest_.substr(0, space);
    rest_.remove_prefix(space == std::string_view::npos ? rest_.size() : space + 1);
    return word;
  }
  std::string_view rest() const { return rest_; }
  bool is_at_end() const { return rest_.empty(); }
  bool is_good() const { return is_good_; }

 private:
  std::string_view rest_;
  bool is_good_ = true;
};

/// Writes the words of a record behind its letter.
class RecordWriter {
 public:
  explicit RecordWriter(std::string& text) : to_(std::back_inserter(text)) {}

  void operator()(const HeadRecord& head) {
    const nlohmann::json json{
        {"version", format_version}, {"created", head.created}, {"job", head.identity}, {"found", head.found}};
    fmt::format_to(to_, "j {}", json.dump(-1, ' ', true, nlohmann::json::error_handler_t::replace));
  }
  void operator()(const BaseRecord& base) {
    const RowTotals& totals = base.totals;
    fmt::format_to(to_, "b {} {} {:a} {}", totals.rows, totals.failed_rows, totals.log_probability,
                   totals.scored_tokens);
    for (const FilePrefix& prefix : base.files) write(prefix);
    fmt::format_to(to_, " {}", base.done.to_text());
  }
  void operator()(const RowRecord& row) {
    fmt::format_to(to_, "r {} {}", row.ordinal, row.file);
    write(row.outcome);
    write(row.prefix);
  }
  void operator()(const HeldRecord& held) {
    fmt::format_to(to_, "h {} {}", held.ordinal, held.file);
    write(held.outcome);
    fmt::format_to(to_, " {}", held.line);
  }
  void operator()(const ReleaseRecord& release) {
    fmt::format_to(to_, "o {}", release.file);
    write(release.prefix);
    for (const std::uint64_t ordinal : release.ordinals) fmt::format_to(to_, " {}", ordinal);
  }
  void operator()(const SyncRecord& sync) {
    fmt::format_to(to_, "s");
    for (const std::uint64_t end : sync.end_bytes) fmt::format_to(to_, " {}", end);
  }
  void operator()(const CompleteRecord&) { fmt::format_to(to_, "c"); }

 private:
  void write(const FilePrefix& prefix) { fmt::format_to(to_, " {} {:x}", prefix.end_bytes, prefix.checksum); }
  void write(const RowOutcome& row) {
    fmt::format_to(to_, " {} {:a} {}", row.has_failed ? 1 : 0, row.log_probability, row.scored_tokens);
  }

  std::back_insert_iterator<std::string> to_;
};

std::optional<JournalRecord> parse_head(std::string_view text) {
  try {
    const nlohmann::json json = nlohmann::json::parse(text);
    if (json.at("version") != format_version) return std::nullopt;
    return HeadRecord{json.at("created").get<std::int64_t>(), json.at("job").get<JobIdentity>(),
                      json.at("found").get<JobIdentity>()};
  } catch (const nlohmann::json::exception&) {
    return std::nullopt;
  }
}

std::optional<JournalRecord> parse_base(Words& words) {
  BaseRecord base;
  base.totals.rows = words.number<std::uint64_t>();
  base.totals.failed_rows = words.number<std::uint64_t>();
  base.totals.log_probability = words.real();
  base.totals.scored_tokens = words.number<std::uint64_t>();
  for (FilePrefix& prefix : base.files) prefix = words.prefix();
  std::optional<DoneRows> done = DoneRows::from_text(words.rest());
  if (!done) return std::nullopt;
  base.done = std::move(*done);
  return base;
}

std::optional<JournalRecord> parse_row(Words& words) {
  RowRecord row;
  row.ordinal = words.number<std::uint64_t>();
  row.file = words.file();
  row.outcome = words.outcome();
  row.prefix = words.prefix();
  return row;
}

std::optional<JournalRecord> parse_held(Words& words) {
  HeldRecord held;
  held.ordinal = words.number<std::uint64_t>();
  held.file = words.file();
  held.outcome = words.outcome();
  held.line = words.rest();
  return held;
}

std::optional<JournalRecord> parse_release(Words& words) {
  ReleaseRecord release;
  release.file = words.file();
  release.prefix = words.prefix();
  do release.ordinals.push_back(words.number<std::uint64_t>());
  while (!words.is_at_end());
  return release;
}

std::optional<JournalRecord> parse_sync(Words& words) {
  SyncRecord sync;
  for (std::uint64_t& end : sync.end_bytes) end = words.number<std::uint64_t>();
  return sync;
}

std::optional<JournalRecord> parse_kind(std::string_view kind, Words& words) {
  if (kind == "j") return parse_head(words.rest());
  if (kind == "b") return parse_base(words);
  if (kind == "r") return parse_row(words);
  if (kind == "h") return parse_held(words);
  if (kind == "o") return parse_release(words);
  if (kind == "s") return parse_sync(words);
  if (kind == "c") return CompleteRecord{};
  return std::nullopt;
}

}  // namespace

void RowTotals::add(const RowOutcome& row) {
  ++rows;
  failed_rows += row.has_failed ? 1 : 0;
  log_probability += row.log_probability;
  scored_tokens += row.scored_tokens;
}

std::uint32_t checksum(std::string_view bytes, std::uint32_t before) {
  return static_cast<std::uint32_t>(
      ::crc32_z(before, reinterpret_cast<const unsigned char*>(bytes.data()), bytes.size()));
}

void append_record(const JournalRecord& record, std::string& text) {
  const std::size_t begin = text.size();
  text.append(checksum_digits, '0').push_back(' ');
  std::visit(RecordWriter(text), record);
  const std::string_view words = std::string_view(text).substr(begin + checksum_digits + 1);
  fmt::format_to(text.begin() + static_cast<std::ptrdiff_t>(begin), "{:08x}", checksum(words));
  text.push_back('\n');
}

std::optional<JournalRecord> parse_record(std::string_view line) {
  if (line.size() < checksum_digits + 2 || line[checksum_digits] != ' ') return std::nullopt;
  const std::string_view text = line.substr(checksum_digits + 1);
  if (fmt::format("{:08x}", checksum(text)) != line.substr(0, checksum_digits)) return std::nullopt;
  Words words(text);
  const std::string_view kind = words.next();
  std::optional<JournalRecord> record = parse_kind(kind, words);
  return words.is_good() ? record : std::nullopt;
}

}  // namespace flexgen

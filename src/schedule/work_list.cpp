#include "schedule/work_list.hpp"

#include <algorithm>
#include <cstring>
#include <type_traits>

#include "base/error.hpp"

namespace flexgen {
namespace {

class Writer {
 public:
  void put(std::int64_t value) {
    std::byte raw[sizeof value];
    std::memcpy(raw, &value, sizeof value);
    bytes.insert(bytes.end(), raw, raw + sizeof value);
  }
  void put_tokens(const std::vector<std::int32_t>& tokens) {
    put(static_cast<std::int64_t>(tokens.size()));
    put_raw(tokens.data(), tokens.size());
  }
  template <class T>
  void put_raw(const T* first, std::size_t count) {
    static_assert(std::is_trivially_copyable_v<T>);
    const auto* raw = reinterpret_cast<const std::byte*>(first);
    bytes.insert(bytes.end(), raw, raw + count * sizeof(T));
  }
  std::vector<std::byte> bytes;
};

class Reader {
 public:
  explicit Reader(std::span<const std::byte> bytes) : rest_(bytes) {}

  std::int64_t get() {
    std::int64_t value = 0;
    take(&value, sizeof value);
    return value;
  }
  std::int32_t get_int() { return static_cast<std::int32_t>(get()); }
  // A count of things that need at least `least_bytes` each: a corrupt message must not make us allocate wildly.
  std::size_t get_count(std::size_t least_bytes) {
    const std::int64_t count = get();
    FLEXGEN_CHECK(count >= 0 && static_cast<std::uint64_t>(count) <= rest_.size() / least_bytes,
                  "work list is malformed");
    return static_cast<std::size_t>(count);
  }
  std::vector<std::int32_t> get_tokens() {
    std::vector<std::int32_t> tokens(get_count(sizeof(std::int32_t)));
    get_raw(tokens.data(), tokens.size());
    return tokens;
  }
  template <class T>
  void get_raw(T* first, std::size_t count) {
    static_assert(std::is_trivially_copyable_v<T>);
    take(first, count * sizeof(T));
  }
  bool at_end() const { return rest_.empty(); }

 private:
  void take(void* to, std::size_t size) {
    FLEXGEN_CHECK(size <= rest_.size(), "work list is cut short");
    if (size != 0) std::memcpy(to, rest_.data(), size);
    rest_ = rest_.subspan(size);
  }
  std::span<const std::byte> rest_;
};

// All ranks of a job are one build of the program, so structs travel as they lie.
void encode_choice(const RowChoice& choice, Writer& out) {
  out.put(choice.row);
  out.put(choice.num_prompt_top);
  out.put(choice.wants_score);
  out.put_raw(&choice.how, 1);
  out.put(static_cast<std::int64_t>(choice.adjustments.size()));
  out.put_raw(choice.adjustments.data(), choice.adjustments.size());
}

void decode_choice(Reader& in, RowChoice& choice) {
  choice.row = in.get_int();
  choice.num_prompt_top = in.get_int();
  choice.wants_score = in.get() != 0;
  in.get_raw(&choice.how, 1);
  choice.adjustments.resize(in.get_count(sizeof(TokenAdjustment)));
  in.get_raw(choice.adjustments.data(), choice.adjustments.size());
}

}  // namespace

bool lies_before(const RowWork& row, const RowWork& other) {
  const std::size_t depth = std::min(row.shared.size(), other.shared.size());
  for (std::size_t i = 0; i < depth; ++i) {
    const SharedRun &own = row.shared[i], &others = other.shared[i];
    if (own.cache_begin != others.cache_begin) return own.cache_begin < others.cache_begin;
    if (own.length != others.length) return own.length < others.length;
  }
  const auto next = [depth](const RowWork& of) {
    return of.shared.size() > depth ? of.shared[depth].cache_begin : of.cache_begin;
  };
  return next(row) < next(other);
}

std::int64_t SweepWork::num_prompt_tokens() const {
  std::int64_t total = 0;
  for (const MicroBatchWork& batch : micro_batches)
    for (const RowWork& row : batch.rows)
      if (row.reads_prompt) total += row.count();
  return total;
}

std::int64_t SweepWork::num_decode_tokens() const {
  std::int64_t total = 0;
  for (const MicroBatchWork& batch : micro_batches) total += batch.num_tokens();
  return total - num_prompt_tokens();
}

std::vector<std::byte> encode_work(const SweepWork& work) {
  Writer out;
  out.put(work.number);
  out.put(work.group.value);
  out.put(work.more_follow);
  out.put(static_cast<std::int64_t>(work.micro_batches.size()));
  for (const MicroBatchWork& batch : work.micro_batches) {
    out.put(batch.slot);
    out.put(static_cast<std::int64_t>(batch.rows.size()));
    for (const RowWork& row : batch.rows) {
      out.put(row.row.value);
      out.put(row.cache_row);
      out.put(row.cache_begin);
      out.put(row.start);
      out.put(row.wants_token);
      out.put(row.wants_scores);
      out.put(row.next_token);
      out.put_tokens(row.tokens);
      out.put(row.reads_prompt);
      out.put(static_cast<std::int64_t>(row.shared.size()));
      for (const SharedRun& run : row.shared) {
        out.put(run.cache_row);
        out.put(run.cache_begin);
        out.put(run.length);
      }
    }
    out.put(static_cast<std::int64_t>(batch.choices.size()));
    for (const RowChoice& choice : batch.choices) encode_choice(choice, out);
  }
  return std::move(out.bytes);
}

SweepWork decode_work(std::span<const std::byte> message) {
  Reader in(message);
  SweepWork work;
  work.number = in.get();
  work.group = GroupId(in.get_int());
  work.more_follow = in.get() != 0;
  work.micro_batches.resize(in.get_count(3 * sizeof(std::int64_t)));
  for (MicroBatchWork& batch : work.micro_batches) {
    batch.slot = in.get_int();
    batch.rows.resize(in.get_count(10 * sizeof(std::int64_t)));
    for (RowWork& row : batch.rows) {
      row.row = RowId(in.get());
      row.cache_row = in.get_int();
      row.cache_begin = in.get_int();
      row.start = in.get_int();
      row.wants_token = in.get() != 0;
      row.wants_scores = in.get() != 0;
      row.next_token = in.get_int();
      row.tokens = in.get_tokens();
      row.reads_prompt = in.get() != 0;
      row.shared.resize(in.get_count(3 * sizeof(std::int64_t)));
      for (SharedRun& run : row.shared) run = {in.get_int(), in.get_int(), in.get_int()};
    }
    batch.choices.resize(in.get_count(4 * sizeof(std::int64_t) + sizeof(SampleRow)));
    for (RowChoice& choice : batch.choices) decode_choice(in, choice);
  }
  FLEXGEN_CHECK(in.at_end(), "work list has trailing bytes");
  return work;
}

}  // namespace flexgen

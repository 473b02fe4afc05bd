#include "weights/checkpoint/pickle.hpp"

#include <fmt/core.h>

#include <algorithm>
#include <limits>

#include "weights/checkpoint/byte_source.hpp"
#include "weights/checkpoint/refusal.hpp"

namespace flexgen::checkpoint {

namespace {

constexpr PickleId mark = std::numeric_limits<PickleId>::max();  // on the stack in place of a value
constexpr std::size_t num_storage_fields = 5;

/// The opcodes that torch.save uses for a state dict; the number in a name is the width of its argument in bytes.
enum class Op : std::uint8_t {
  protocol = 0x80,
  frame = 0x95,
  global = 'c',
  stack_global = 0x93,
  persistent_id = 'Q',
  reduce = 'R',
  build = 'b',
  stop = '.',
  none = 'N',
  new_true = 0x88,
  new_false = 0x89,
  int4 = 'J',
  int1 = 'K',
  int2 = 'M',
  long1 = 0x8a,
  float8 = 'G',
  text4 = 'X',
  text1 = 0x8c,
  text8 = 0x8d,
  bytes1 = 'C',
  bytes4 = 'B',
  bytes8 = 0x8e,
  open_mark = '(',
  empty_tuple = ')',
  empty_dict = '}',
  empty_list = ']',
  tuple = 't',
  tuple1 = 0x85,
  tuple2 = 0x86,
  tuple3 = 0x87,
  set_item = 's',
  set_items = 'u',
  append = 'a',
  appends = 'e',
  put1 = 'q',
  put4 = 'r',
  memoize = 0x94,
  get1 = 'h',
  get4 = 'j'
};

class Machine {
 public:
  Machine(std::span<const std::byte> bytes, const std::string& file) : bytes_(bytes), file_(file) {}

  Pickle run() {
    if (bytes_.size() > max_pickle_bytes) refuse("it is larger than 32 MiB");
    while (!stopped_) step(static_cast<Op>(take_number<std::uint8_t>()));
    if (!stack_.empty()) refuse("it leaves values behind");
    return std::move(pickle_);
  }

 private:
  void step(Op opcode) {
    if (step_scalar(opcode) || step_container(opcode) || step_memo(opcode)) return;
    switch (opcode) {
      case Op::protocol: return check_protocol(take_number<std::uint8_t>());
      case Op::frame: return check_frame(take_number<std::uint64_t>());
      case Op::global: {
        const auto module = take_line();
        return push_global(module, take_line());
      }
      case Op::stack_global: {
        const auto name = pop_text();
        return push_global(pop_text(), name);
      }
      case Op::persistent_id: return push_storage(pop());
      case Op::reduce: {
        const PickleId arguments = pop();
        return call(pop(), arguments);
      }
      case Op::build: {
        // The attributes of an OrderedDict (a state dict's _metadata) are of no interest.
        pop();
        if (top().kind != PickleKind::dict) refuse("it sets the state of something that is not a dictionary");
        return;
      }
      case Op::stop:
        pickle_.root = pop();
        stopped_ = true;
        return;
      default:
        refuse(fmt::format("opcode 0x{:02x} at byte {} is not one that state dicts need", static_cast<int>(opcode),
                           at_ - 1));
    }
  }

  bool step_scalar(Op opcode) {
    switch (opcode) {
      case Op::none: return push({}), true;
      case Op::new_true: return push({.kind = PickleKind::boolean, .integer = 1}), true;
      case Op::new_false: return push({.kind = PickleKind::boolean, .integer = 0}), true;
      case Op::int4: return push_integer(static_cast<std::int32_t>(take_number<std::uint32_t>())), true;
      case Op::int1: return push_integer(take_number<std::uint8_t>()), true;
      case Op::int2: return push_integer(take_number<std::uint16_t>()), true;
      case Op::long1: return push_wide_integer(take(take_number<std::uint8_t>())), true;
      case Op::float8: return take(8), push({.kind = PickleKind::opaque}), true;
      case Op::text4: return push_text(take(take_number<std::uint32_t>())), true;
      case Op::text1: return push_text(take(take_number<std::uint8_t>())), true;
      case Op::text8: return push_text(take(take_number<std::uint64_t>())), true;
      case Op::bytes1: return take(take_number<std::uint8_t>()), push({.kind = PickleKind::opaque}), true;
      case Op::bytes4: return take(take_number<std::uint32_t>()), push({.kind = PickleKind::opaque}), true;
      case Op::bytes8: return take(take_number<std::uint64_t>()), push({.kind = PickleKind::opaque}), true;
      default: return false;
    }
  }

  bool step_container(Op opcode) {
    switch (opcode) {
      case Op::open_mark: return stack_.push_back(mark), true;
      case Op::empty_tuple: return push({.kind = PickleKind::tuple}), true;
      case Op::empty_dict: return push({.kind = PickleKind::dict}), true;
      case Op::empty_list: return push({.kind = PickleKind::list}), true;
      case Op::tuple: return push({.kind = PickleKind::tuple, .items = pop_to_mark()}), true;
      case Op::tuple1: return push({.kind = PickleKind::tuple, .items = pop_many(1)}), true;
      case Op::tuple2: return push({.kind = PickleKind::tuple, .items = pop_many(2)}), true;
      case Op::tuple3: return push({.kind = PickleKind::tuple, .items = pop_many(3)}), true;
      case Op::set_item: return extend_top(PickleKind::dict, pop_many(2)), true;
      case Op::set_items: return extend_top(PickleKind::dict, pop_to_mark()), true;
      case Op::append: return extend_top(PickleKind::list, pop_many(1)), true;
      case Op::appends: return extend_top(PickleKind::list, pop_to_mark()), true;
      default: return false;
    }
  }

  bool step_memo(Op opcode) {
    switch (opcode) {
      case Op::put1: return remember(take_number<std::uint8_t>()), true;
      case Op::put4: return remember(take_number<std::uint32_t>()), true;
      case Op::memoize: return remember(num_remembered_), true;
      case Op::get1: return recall(take_number<std::uint8_t>()), true;
      case Op::get4: return recall(take_number<std::uint32_t>()), true;
      default: return false;
    }
  }

  // --- the bytes ---

  std::span<const std::byte> take(std::uint64_t size) {
    if (size > bytes_.size() - at_) refuse("it is cut short");
    const auto taken = bytes_.subspan(at_, size);
    at_ += size;
    return taken;
  }

  template <class T>
  T take_number() {
    return load_little_endian<T>(take(sizeof(T)));
  }

  std::string_view take_line() {
    const auto rest = as_text(bytes_.subspan(at_));
    const std::size_t size = rest.find('\n');
    if (size == std::string_view::npos) refuse("it is cut short");
    at_ += size + 1;
    return rest.substr(0, size);
  }

  void check_protocol(std::uint8_t protocol) const {
    if (protocol < 2 || protocol > 5) refuse(fmt::format("its protocol is {}, not 2 to 5", protocol));
  }
  void check_frame(std::uint64_t frame_bytes) const {
    if (frame_bytes > bytes_.size() - at_) refuse("it is cut short");
  }

  // --- the stack ---

  void push(PickleValue value) {
    if (pickle_.values.size() == max_num_pickle_values) refuse("it holds more than 2 Mi values");
    stack_.push_back(static_cast<PickleId>(pickle_.values.size()));
    pickle_.values.push_back(std::move(value));
  }
  void push_integer(std::int64_t value) { push({.kind = PickleKind::integer, .integer = value}); }
  void push_text(std::span<const std::byte> bytes) { push({.kind = PickleKind::text, .text = as_text(bytes)}); }

  void push_wide_integer(std::span<const std::byte> bytes) {
    if (bytes.size() > sizeof(std::int64_t)) return push({.kind = PickleKind::opaque});
    std::uint64_t value = 0;
    if (!bytes.empty() && (std::to_integer<unsigned>(bytes.back()) & 0x80) != 0) value = ~std::uint64_t{0};
    for (std::size_t i = bytes.size(); i-- > 0;) value = (value << 8) | std::to_integer<std::uint64_t>(bytes[i]);
    push_integer(static_cast<std::int64_t>(value));
  }

  PickleId pop() {
    if (stack_.empty() || stack_.back() == mark) refuse("it takes a value from an empty stack");
    const PickleId id = stack_.back();
    stack_.pop_back();
    return id;
  }

  std::string_view pop_text() {
    const PickleValue& value = pickle_[pop()];
    if (value.kind != PickleKind::text) refuse("a global's name is not text");
    return value.text;
  }

  std::vector<PickleId> pop_many(std::size_t count) {
    std::vector<PickleId> items(count);
    for (std::size_t i = count; i-- > 0;) items[i] = pop();
    return items;
  }

  std::vector<PickleId> pop_to_mark() {
    const auto found = std::find(stack_.rbegin(), stack_.rend(), mark);
    if (found == stack_.rend()) refuse("a mark is missing");
    std::vector<PickleId> items(found.base(), stack_.end());
    stack_.erase(found.base() - 1, stack_.end());
    return items;
  }

  PickleValue& top() {
    if (stack_.empty() || stack_.back() == mark) refuse("it takes a value from an empty stack");
    return pickle_.values[stack_.back()];
  }

  void extend_top(PickleKind kind, const std::vector<PickleId>& items) {
    PickleValue& container = top();
    if (container.kind != kind) refuse("it adds items to something that is not a list or a dictionary");
    if (kind == PickleKind::dict && items.size() % 2 != 0) refuse("a dictionary key lacks its value");
    container.items.insert(container.items.end(), items.begin(), items.end());
  }

  // --- the memo ---

  void remember(std::size_t slot) {
    top();  // refuses a mark
    // Writers number the memo from 0 upwards, so a slot beyond the bytes is no honest pickle's.
    if (slot >= std::min(max_num_pickle_values, bytes_.size())) refuse("a memo index is out of range");
    if (slot >= memo_.size()) memo_.resize(slot + 1, mark);
    if (memo_[slot] == mark) ++num_remembered_;
    memo_[slot] = stack_.back();
  }

  void recall(std::size_t slot) {
    if (slot >= memo_.size() || memo_[slot] == mark) refuse("it recalls a value that was not memorised");
    stack_.push_back(memo_[slot]);
  }

  // --- globals and calls ---

  void push_global(std::string_view module, std::string_view name) {
    const auto globals = allowed_globals();
    const auto found = std::ranges::find_if(
        globals, [&](const AllowedGlobal& global) { return global.module == module && global.name == name; });
    if (found == globals.end()) {
      refuse_file(file_,
                  fmt::format("its pickle asks for {} of module {}, which is not part of a state dict and might run "
                              "code",
                              quote_name(name), quote_name(module)),
                  "Use a checkpoint that holds only tensors, best as safetensors");
    }
    push({.kind = PickleKind::global, .integer = found - globals.begin()});
  }

  GlobalRole role_of(PickleId id) const {
    const PickleValue& value = pickle_[id];
    if (value.kind != PickleKind::global) refuse("it calls something that is not a function");
    return allowed_globals()[static_cast<std::size_t>(value.integer)].role;
  }

  void push_storage(PickleId id) {
    const PickleValue& value = pickle_[id];
    const auto is = [&](std::size_t item, PickleKind kind) { return pickle_[value.items[item]].kind == kind; };
    if (value.kind != PickleKind::tuple || value.items.size() != num_storage_fields || !is(0, PickleKind::text) ||
        pickle_[value.items[0]].text != "storage" || !is(1, PickleKind::global) ||
        role_of(value.items[1]) != GlobalRole::storage || !is(2, PickleKind::text) || !is(4, PickleKind::integer)) {
      refuse("a reference to a storage is malformed");
    }
    push({.kind = PickleKind::storage, .items = value.items});
  }

  void call(PickleId function, PickleId arguments) {
    const GlobalRole role = role_of(function);
    const PickleValue& tuple = pickle_[arguments];
    if (tuple.kind != PickleKind::tuple) refuse("the arguments of a call are not a tuple");
    const std::size_t num_arguments = tuple.items.size();
    switch (role) {
      case GlobalRole::ordered_dict:
        if (num_arguments != 0) refuse("it builds an OrderedDict from arguments");
        return push({.kind = PickleKind::dict});
      case GlobalRole::rebuild_tensor:
      case GlobalRole::rebuild_tensor_with_dtype: {
        const std::size_t expected = role == GlobalRole::rebuild_tensor ? 6 : 7;
        if (num_arguments < expected || num_arguments > expected + 1) refuse("a tensor has a wrong number of fields");
        return push({.kind = PickleKind::tensor,
                     .integer = role == GlobalRole::rebuild_tensor_with_dtype,
                     .items = tuple.items});
      }
      case GlobalRole::rebuild_parameter:
        if (num_arguments != 3 || pickle_[tuple.items[0]].kind != PickleKind::tensor) {
          refuse("a parameter is not made of a tensor");
        }
        stack_.push_back(tuple.items[0]);
        return;
      case GlobalRole::storage:
      case GlobalRole::dtype: break;
    }
    refuse("it calls something that is not a function");
  }

  [[noreturn]] void refuse(std::string_view reason) const {
    refuse_file(file_, fmt::format("its pickle is refused: {}", reason));
  }

  std::span<const std::byte> bytes_;
  const std::string& file_;
  std::size_t at_ = 0;
  bool stopped_ = false;
  Pickle pickle_;
  std::vector<PickleId> stack_;
  std::vector<PickleId> memo_;
  std::size_t num_remembered_ = 0;
};

}  // namespace

Pickle parse_pickle(std::span<const std::byte> bytes, const std::string& file) { return Machine(bytes, file).run(); }

}  // namespace flexgen::checkpoint

#include "weights/checkpoint/pickle.hpp"

#include <gtest/gtest.h>

#include "tests/weights/checkpoint/checkpoint_builders.hpp"
#include "tests/weights/checkpoint/expect_refused.hpp"

namespace flexgen::checkpoint {
namespace {

Pickle parse(std::string_view text) { return parse_pickle(bytes_of(text), "tiny.bin"); }

std::string operator""_s(const char* text, std::size_t size) { return {text, size}; }

void expect_pickle_refused(const std::string& pickle, std::initializer_list<std::string_view> pieces) {
  SCOPED_TRACE(pickle.substr(0, 200));
  expect_refused([&] { parse(pickle); }, pieces);
}

TEST(Pickle, ReadsIntegersOfEveryWidth) {
  const struct {
    std::string pickle;
    std::int64_t value;
  } cases[] = {{"K\xff."_s, 255},
               {"M\xff\xff."_s, 65535},
               {"J\xfe\xff\xff\xff."_s, -2},
               {"\x8a\x00."_s, 0},
               {"\x8a\x01\xff."_s, -1},
               {"\x8a\x02\xff\x00."_s, 255},
               {"\x8a\x03\x00\x00\x80."_s, -8388608},
               {pickle_int(INT64_MIN) + ".", INT64_MIN}};
  for (const auto& [pickle, value] : cases) {
    const Pickle result = parse(pickle);
    EXPECT_EQ(result[result.root].kind, PickleKind::integer);
    EXPECT_EQ(result[result.root].integer, value);
  }
  const Pickle wide = parse("\x8a\x09\x00\x00\x00\x00\x00\x00\x00\x00\x01."_s);
  EXPECT_EQ(wide[wide.root].kind, PickleKind::opaque);
}

TEST(Pickle, BuildsNestedValuesThroughTheMemo) {
  // {'a': (1, 2), 'b': [the same tuple, None, True]}
  const std::string text =
      "\x80\x04\x95\x04\x00\x00\x00\x00\x00\x00\x00}\x94(\x8c\x01"
      "a\x94K\x01K\x02\x86\x94"
      "\x8c\x01"
      "b]\x94(h\x02N\x88"
      "eu."_s;
  const Pickle result = parse(text);
  const PickleValue& dict = result[result.root];
  ASSERT_EQ(dict.kind, PickleKind::dict);
  ASSERT_EQ(dict.items.size(), 4u);
  EXPECT_EQ(result[dict.items[0]].text, "a");
  EXPECT_EQ(result[dict.items[2]].text, "b");
  const PickleValue& list = result[dict.items[3]];
  ASSERT_EQ(list.items.size(), 3u);
  EXPECT_EQ(list.items[0], dict.items[1]);
  ASSERT_EQ(result[list.items[0]].kind, PickleKind::tuple);
  EXPECT_EQ(result[result[list.items[0]].items[1]].integer, 2);
  EXPECT_EQ(result[list.items[1]].kind, PickleKind::none);
  EXPECT_EQ(result[list.items[2]].integer, 1);
}

TEST(Pickle, RefusesGlobalsByName) {
  expect_pickle_refused(
      "\x80\x02"
      "cposix\nsystem\nX\x04\x00\x00\x00true\x85R."_s,
      {"tiny.bin", "'system'", "'posix'"});
  expect_pickle_refused(
      "\x8c\x08"
      "builtins\x8c\x04"
      "eval\x93."_s,
      {"'eval'", "'builtins'"});
  expect_pickle_refused("ctorch._utils\n_rebuild_tensor\n."_s, {"'_rebuild_tensor'"});
  expect_pickle_refused("ccollections\nOrderedDict.__init__\n."_s, {"'OrderedDict.__init__'"});
  expect_pickle_refused("ctorch\nHalf\x01\n."_s, {"'Half\\x01'"});
}

TEST(Pickle, RefusesCallsThatStateDictsDoNotMake) {
  expect_pickle_refused("K\x01)R."_s, {"not a function"});
  expect_pickle_refused("ctorch\nHalfStorage\n)R."_s, {"not a function"});
  expect_pickle_refused("ctorch\nfloat16\n)R."_s, {"not a function"});
  expect_pickle_refused("ccollections\nOrderedDict\nK\x01\x85R."_s, {"OrderedDict from arguments"});
  expect_pickle_refused("ccollections\nOrderedDict\nK\x01R."_s, {"not a tuple"});
  expect_pickle_refused("ctorch._utils\n_rebuild_tensor_v2\n)R."_s, {"wrong number of fields"});
  expect_pickle_refused("ctorch._utils\n_rebuild_parameter\nK\x01\x88N\x87R."_s, {"not made of a tensor"});
  expect_pickle_refused("]Nb."_s, {"not a dictionary"});
}

TEST(Pickle, RefusesMalformedStorages) {
  const std::string key = pickle_text("0") + pickle_text("cpu") + pickle_int(4);
  const std::string type = "ctorch\nHalfStorage\n";
  EXPECT_EQ(parse("(" + pickle_text("storage") + type + key + "tQ.").values.back().kind, PickleKind::storage);
  for (const std::string& tuple :
       {"(" + pickle_text("module") + type + key + "t", "(" + pickle_text("storage") + pickle_text("x") + key + "t",
        "(" + pickle_text("storage") + "ctorch\nfloat16\n" + key + "t",
        "(" + pickle_text("storage") + type + key + "Nt",
        "(" + pickle_text("storage") + type + "N" + pickle_text("cpu") + pickle_int(4) + "t",
        "(" + pickle_text("storage") + type + pickle_text("0") + "NNt", std::string(")"), std::string("N")}) {
    expect_pickle_refused(tuple + "Q.", {"tiny.bin"});
  }
}

TEST(Pickle, RefusesMalformedPrograms) {
  for (const std::string& pickle : {""_s,
                                    "."_s,
                                    "\x80"_s,
                                    "\x80\x01N."_s,
                                    "\x80\x06N."_s,
                                    "N"_s,
                                    "NN."_s,
                                    "(."_s,
                                    "(N."_s,
                                    "t."_s,
                                    "Nt."_s,
                                    "a."_s,
                                    "]a."_s,
                                    "}Na."_s,
                                    "}NNa."_s,
                                    "]Ns."_s,
                                    "](NNu."_s,
                                    "}(Nu."_s,
                                    "N\x86."_s,
                                    "(N\x86."_s,
                                    "h\x00."_s,
                                    "Nq\x05h\x04."_s,
                                    "(q\x00."_s,
                                    "\x94."_s,
                                    "Nr\xff\xff\xff\xff."_s,
                                    "X\xff\xff\xff\xff."_s,
                                    "\x8d\xff\xff\xff\xff\xff\xff\xff\xff."_s,
                                    "\x95\xff\xff\xff\xff\xff\xff\xff\xffN."_s,
                                    "\x8a\x09."_s,
                                    "cabc"_s,
                                    "cabc\nd"_s,
                                    "NN\x93."_s,
                                    "Q."_s,
                                    "R."_s,
                                    "NR."_s,
                                    "b."_s,
                                    "G\x00."_s,
                                    "I1\n."_s,
                                    "S'x'\n."_s,
                                    "\x81."_s,
                                    "i"_s,
                                    "o"_s,
                                    "2."_s,
                                    "0."_s,
                                    "P1\n."_s,
                                    "\x82\x01."_s,
                                    "\x92."_s,
                                    "\xff"_s}) {
    expect_pickle_refused(pickle, {"tiny.bin", "pickle is refused"});
  }
}

TEST(Pickle, NeitherDepthNorCyclesNorNumbersHurt) {
  // A list in a list in a list ...: deep enough to overflow the stack of anything recursive.
  const std::size_t depth = 1'000'000;
  const Pickle deep = parse(std::string(depth, ']') + std::string(depth - 1, 'a') + ".");
  EXPECT_EQ(deep.values.size(), depth);
  // A list that holds itself.
  const Pickle cycle = parse(
      "]q\x00h\x00"
      "a."_s);
  EXPECT_EQ(cycle[cycle.root].items.at(0), cycle.root);
  expect_pickle_refused(std::string(max_num_pickle_values + 1, '}'), {"2 Mi values"});
  expect_pickle_refused(std::string(max_pickle_bytes + 1, '('), {"32 MiB"});
}

}  // namespace
}  // namespace flexgen::checkpoint

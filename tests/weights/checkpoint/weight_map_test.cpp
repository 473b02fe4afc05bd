#include "weights/checkpoint/weight_map.hpp"

#include <gtest/gtest.h>

#include "tests/weights/checkpoint/expect_refused.hpp"

namespace flexgen::checkpoint {
namespace {

TEST(WeightMap, GroupsKeysByShard) {
  const WeightMap map = parse_weight_map(R"({"metadata":{"total_size":1,"x":[{"weight_map":2}]},)"
                                         R"("weight_map":{"b":"2.bin","a":"1.bin","c":"1.bin"},"z":null})",
                                         "i");
  const WeightMap expected = {{"1.bin", {"a", "c"}}, {"2.bin", {"b"}}};
  EXPECT_EQ(map, expected);
}

TEST(WeightMap, RefusesNamesThatLeaveTheFolder) {
  for (const char* name : {"/etc/passwd", "../x.bin", "a/../../x.bin", "..", "", "a\\u0000b"}) {
    SCOPED_TRACE(name);
    expect_refused([&] { parse_weight_map(std::string(R"({"weight_map":{"a":")") + name + "\"}}", "i.json"); },
                   {"i.json", "out of the model's folder"});
  }
  EXPECT_EQ(parse_weight_map(R"({"weight_map":{"a":"part/..x.bin"}})", "i").size(), 1u);
}

TEST(WeightMap, RefusesMalformedMaps) {
  for (const char* text :
       {"", "{}", "[]", R"({"weight_map":{}})", R"({"weight_map":[]})", R"({"weight_map":"x"})",
        R"({"weight_map":{"a":1}})", R"({"weight_map":{"a":{"b":"c"}}})", R"({"weight_map":{"a":["x"]}})",
        R"({"weight_map":{"a":null}})", R"({"weight_map":{"a":"x"})", R"({"weight_map":{"a":"x","a":"y"}})",
        R"({"weight_map":{"a":"x"},"weight_map":{"b":"y"}})"}) {
    SCOPED_TRACE(text);
    expect_refused([&] { parse_weight_map(text, "i.json"); }, {"i.json"});
  }
}

}  // namespace
}  // namespace flexgen::checkpoint

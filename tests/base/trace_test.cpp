#include "base/trace.hpp"

#include <gtest/gtest.h>

#include <nlohmann/json.hpp>
#include <set>
#include <thread>

namespace flexgen::test {
namespace {

using nlohmann::json;

const ResourceTotals& of(const TotalsByResource& totals, Resource resource) {
  return totals[static_cast<std::size_t>(resource)];
}

TEST(Tracer, TotalsAddUpPerResource) {
  Tracer tracer;
  tracer.record(Resource::disk_read, "a", 100, 250, 4096);
  tracer.record(Resource::disk_read, "b", 300, 350, 1);
  tracer.record(Resource::compute, "c", 0, 7);
  const TotalsByResource totals = tracer.totals();
  EXPECT_EQ(of(totals, Resource::disk_read).busy_ns, 200U);
  EXPECT_EQ(of(totals, Resource::disk_read).bytes, 4097U);
  EXPECT_EQ(of(totals, Resource::disk_read).count, 2U);
  EXPECT_EQ(of(totals, Resource::compute).busy_ns, 7U);
  EXPECT_EQ(of(totals, Resource::compute).bytes, 0U);
  EXPECT_EQ(of(totals, Resource::send).count, 0U);
  EXPECT_TRUE(tracer.events().empty()) << "no trace was asked for";
}

TEST(Tracer, KeepsEventsWhenAsked) {
  Tracer tracer(true);
  tracer.record(Resource::send, "to rank 1", 10, 30, 5);
  const std::vector<TraceEvent> events = tracer.events();
  ASSERT_EQ(events.size(), 1U);
  EXPECT_EQ(events[0].name, "to rank 1");
  EXPECT_EQ(events[0].resource, Resource::send);
  EXPECT_EQ(events[0].end_ns - events[0].begin_ns, 20U);
  EXPECT_EQ(events[0].bytes, 5U);
}

TEST(Tracer, CountsFromManyThreads) {
  Tracer tracer(true);
  std::vector<std::thread> threads;
  for (int t = 0; t < 4; ++t)
    threads.emplace_back([&] {
      for (int i = 0; i < 500; ++i) tracer.record(Resource::gpu_copy, "x", 0, 2, 3);
    });
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(of(tracer.totals(), Resource::gpu_copy).count, 2000U);
  EXPECT_EQ(of(tracer.totals(), Resource::gpu_copy).busy_ns, 4000U);
  EXPECT_EQ(of(tracer.totals(), Resource::gpu_copy).bytes, 6000U);
  EXPECT_EQ(tracer.events().size(), 2000U);
}

TEST(TraceSpan, RecordsItsScope) {
  Tracer tracer(true);
  const std::uint64_t before = now_ns();
  { const TraceSpan span(&tracer, Resource::compute, "layer 0", 12); }
  const std::uint64_t after = now_ns();
  ASSERT_EQ(tracer.events().size(), 1U);
  const TraceEvent event = tracer.events().front();
  EXPECT_LE(before, event.begin_ns);
  EXPECT_LE(event.begin_ns, event.end_ns);
  EXPECT_LE(event.end_ns, after);
  EXPECT_EQ(event.bytes, 12U);
  { const TraceSpan nobody(nullptr, Resource::compute, "unseen"); }
  EXPECT_EQ(tracer.events().size(), 1U);
}

TEST(ResourceNames, AreDistinct) {
  std::set<std::string_view> names;
  for (std::size_t r = 0; r < num_resources; ++r) names.insert(resource_name(static_cast<Resource>(r)));
  EXPECT_EQ(names.size(), num_resources);
}

TEST(ChromeTrace, RanksJoinIntoOneValidDocument) {
  const std::vector<TraceEvent> first{{Resource::compute, "layer 0 micro-batch 1", 2'000'500, 5'000'500, 0},
                                      {Resource::disk_read, "weights 3", 1'500, 1'999, 4096}};
  const std::vector<TraceEvent> second{{Resource::recv, "hidden", 3'000'000, 3'000'001, 8}};
  const json document = json::parse("{\"traceEvents\":[" + chrome_trace_events(first, 0, 1'000) + ",\n" +
                                    chrome_trace_events(second, 1, 1'000) + "," + chrome_trace_events({}, 2, 0) + "]}");
  std::vector<json> spans;
  std::set<std::string> processes;
  for (const json& event : document.at("traceEvents")) {
    if (event.at("ph") == "X") spans.push_back(event);
    if (event.at("name") == "process_name") processes.insert(event.at("args").at("name").get<std::string>());
  }
  EXPECT_EQ(processes, (std::set<std::string>{"rank 0", "rank 1", "rank 2"}));
  ASSERT_EQ(spans.size(), 3U);
  EXPECT_EQ(spans[0].at("name"), "layer 0 micro-batch 1");
  EXPECT_DOUBLE_EQ(spans[0].at("ts").get<double>(), 1999.5);  // microseconds since the origin
  EXPECT_DOUBLE_EQ(spans[0].at("dur").get<double>(), 3000);
  EXPECT_EQ(spans[0].at("cat"), "compute");
  EXPECT_EQ(spans[1].at("args").at("bytes"), 4096);
  EXPECT_EQ(spans[2].at("pid"), 1);
  // Every span lies on a thread that has the resource's name.
  for (const json& span : spans) {
    bool named = false;
    for (const json& event : document.at("traceEvents"))
      named = named || (event.at("name") == "thread_name" && event.at("pid") == span.at("pid") &&
                        event.at("tid") == span.at("tid") && event.at("args").at("name") == span.at("cat"));
    EXPECT_TRUE(named) << span.dump();
  }
}

TEST(ChromeTrace, AnEventBeforeTheOriginHasANegativeTime) {
  const json events =
      json::parse("[" + chrome_trace_events({{Resource::compute, "early", 1'000, 2'000, 0}}, 0, 5'000) + "]");
  EXPECT_DOUBLE_EQ(events.back().at("ts").get<double>(), -4);
  EXPECT_DOUBLE_EQ(events.back().at("dur").get<double>(), 1);
}

}  // namespace
}  // namespace flexgen::test

#include "run/doctor/examination.hpp"

#include <fmt/core.h>

#include <algorithm>
#include <utility>

#include "base/trace.hpp"
#include "comm/exchange.hpp"
#include "run/doctor/judge.hpp"
#include "run/doctor/link_check.hpp"
#include "run/doctor/own_facts.hpp"
#include "run/doctor/seen.hpp"

namespace flexgen {
namespace {

constexpr std::chrono::seconds links_limit{20};

template <class Look>
auto timed(const char* check, RankFacts& facts, const Look& look) {
  const std::uint64_t begin_ns = now_ns();
  auto found = look();
  facts.seconds[check] = seconds_since(begin_ns);
  return found;
}

void look_at_host(const MpiSession& session, const Communicator& ranks, const ExaminationRequest& request,
                  RankFacts& facts) {
  const MachineRequest& machine = request.machine;
  facts.program = timed("program", facts, look_at_program);
  facts.launch = timed("ranks", facts, [&] { return look_at_launch(ranks, session.launched()); });
  facts.machine = timed("machine", facts, [] { return look_at_machine(); });
  facts.gpu = timed("gpu", facts, [&] { return look_at_gpu(machine, ranks); });
  const DiskSpeed speed = ranks.local_rank() == 0 ? DiskSpeed::measured : DiskSpeed::left_out;
  facts.disk = timed("disk", facts, [&] { return look_at_disk(machine.offload_dir, speed); });
  const bool alone = ranks.local_size() == ranks.size();
  facts.network = timed("network", facts, [&] { return look_at_network(!alone); });
}

void look_at_files(const Communicator& ranks, const ExaminationRequest& request, RankFacts& facts) {
  if (!request.output.empty() && ranks.rank() == 0)
    facts.output = timed("output", facts, [&] { return look_at_output(request.output); });
  if (!request.model.name.empty()) facts.model = timed("model", facts, [&] { return look_at_model(request.model); });
}

/// Rank 0's book of checks.
class CheckBook {
 public:
  using OnCheck = std::function<void(const CheckOutcome&, AllRanks)>;

  CheckBook(Diagnosis& diagnosis, OnCheck on_check) : diagnosis_(diagnosis), on_check_(std::move(on_check)) {}

  void add(const char* name, std::vector<std::string> seen, std::vector<Finding> findings) {
    double seconds = 0;
    for (const RankFacts& rank : diagnosis_.ranks)
      if (const auto own = rank.seconds.find(name); own != rank.seconds.end()) seconds = std::max(seconds, own->second);
    add({name, seconds, std::move(seen), std::move(findings)});
  }
  void add(CheckOutcome check) {
    diagnosis_.checks.push_back(std::move(check));
    on_check_(diagnosis_.checks.back(), diagnosis_.ranks);
  }

 private:
  Diagnosis& diagnosis_;
  OnCheck on_check_;
};

void add_checks(const ExaminationRequest& request, AllRanks ranks, CheckBook& book) {
  book.add("program", see_program(ranks), judge_program(ranks));
  book.add("ranks", see_launch(ranks), judge_launch(ranks));
  book.add("machine", see_machine(ranks), judge_machine(ranks));
  book.add("gpu", see_gpu(ranks), judge_gpu(ranks, request.machine));
  book.add("disk", see_disk(ranks), judge_disk(ranks));
  if (request.output.empty()) book.add("output", {"not looked at: give --output FILE"}, {});
  else book.add("output", see_output(ranks), judge_output(ranks));
  if (request.model.name.empty()) book.add("model", {"not looked at: give --model DIR"}, {});
  else book.add("model", see_model(ranks), judge_model(ranks));
  book.add("network", see_network(ranks), judge_network(ranks));
}

// Collective.
void add_links(MpiSession& session, Diagnosis& diagnosis, CheckBook& book) {
  Communicator& ranks = session.communicator();
  const bool speaks = ranks.rank() == 0;
  const std::unique_ptr<Transport> transport = session.make_transport();
  std::uint64_t begin_ns = now_ns();
  diagnosis.clocks = measure_clocks(*transport, ranks);
  if (speaks)
    book.add({"clocks", seconds_since(begin_ns), see_clocks(diagnosis.clocks), judge_clocks(diagnosis.clocks)});
  std::vector<int> nodes;
  nodes.reserve(static_cast<std::size_t>(ranks.size()));
  for (int r = 0; r < ranks.size(); ++r) nodes.push_back(ranks.place(r).node);
  begin_ns = now_ns();
  const LinkFigures figures = measure_links(*transport, ranks, choose_links(nodes), links_limit);
  diagnosis.links = figures.links;
  if (speaks) book.add({"links", seconds_since(begin_ns), see_links(figures), judge_links(figures.links)});
  ranks.barrier();  // nobody leaves while others are measured
}

// Ranks of one program alone understand each other.
bool run_the_same(Communicator& ranks, Diagnosis& diagnosis, CheckBook& book) {
  const std::string own = look_at_program().version;
  const std::vector<std::string> versions = ranks.all_gather(own);
  if (std::ranges::count(versions, own) == ranks.size()) return true;
  for (int r = 0; r < ranks.size(); ++r) {
    RankFacts& facts = diagnosis.ranks.emplace_back();
    facts.program.version = versions[static_cast<std::size_t>(r)];
    facts.launch.host = ranks.place(r).host;
  }
  if (ranks.rank() == 0) book.add("program", {}, judge_program(diagnosis.ranks));
  return false;
}

}  // namespace

Diagnosis examine(MpiSession& session, const ExaminationRequest& request,
                  const std::function<void(const CheckOutcome&, std::span<const RankFacts>)>& on_check) {
  const std::uint64_t begin_ns = now_ns();
  Communicator& ranks = session.communicator();
  Diagnosis diagnosis;
  CheckBook book(diagnosis, on_check);
  if (run_the_same(ranks, diagnosis, book)) {
    RankFacts own;
    ranks.agree_on_error([&] { look_at_host(session, ranks, request, own); });
    // After all disks are measured: models may lie on them.
    ranks.agree_on_error([&] { look_at_files(ranks, request, own); });
    diagnosis.ranks = gather(ranks, own);
    if (ranks.rank() == 0) add_checks(request, diagnosis.ranks, book);
    if (ranks.size() > 1) add_links(session, diagnosis, book);
  }
  const Verdict verdict = verdict_of(diagnosis.checks);
  diagnosis.verdict = verdict.text;
  diagnosis.exit_code = std::stoi(ranks.broadcast(std::to_string(verdict.exit_code)));
  diagnosis.seconds = seconds_since(begin_ns);
  return diagnosis;
}

std::string check_text(const CheckOutcome& check, AllRanks ranks) {
  std::string text = fmt::format("{:<9}{:<8}{:5.1f} s", check.name, level_name(check.level()), check.seconds);
  const std::string indent(24, ' ');
  for (std::size_t i = 0; i < check.seen.size(); ++i)
    text += fmt::format("{}  {}\n", i == 0 ? "" : indent, check.seen[i]);
  if (check.seen.empty()) text += "\n";
  for (const Finding& finding : check.findings) {
    text += fmt::format("{:>9}{:<9}", "", fmt::format("{}:", level_name(finding.level)));
    if (!finding.ranks.empty()) text += name_ranks(ranks, finding.ranks) + ": ";
    text += finding.what;
    if (!finding.why.empty()) text += ": " + finding.why;
    if (!finding.what_to_do.empty()) text += ". " + finding.what_to_do;
    text += "\n";
  }
  return text;
}

}  // namespace flexgen

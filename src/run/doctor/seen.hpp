// The facts of all ranks as lines for people: what each check has looked at. Pure.
#pragma once

#include <string>
#include <vector>

#include "run/doctor/judge.hpp"
#include "run/doctor/link_check.hpp"

namespace flexgen {

std::vector<std::string> see_program(AllRanks ranks);
std::vector<std::string> see_launch(AllRanks ranks);
std::vector<std::string> see_machine(AllRanks ranks);
std::vector<std::string> see_gpu(AllRanks ranks);
std::vector<std::string> see_disk(AllRanks ranks);
std::vector<std::string> see_output(AllRanks ranks);
std::vector<std::string> see_model(AllRanks ranks);
std::vector<std::string> see_network(AllRanks ranks);
std::vector<std::string> see_clocks(const std::vector<ClockFacts>& clocks);
std::vector<std::string> see_links(const LinkFigures& figures);

}  // namespace flexgen

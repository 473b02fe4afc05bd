// How fast rows that are alike are let into a block: at once, so that few sweeps run half empty, or evenly, so that
// prompts are computed while links and host work for the rows that decode. Pure arithmetic on the roofline.
#pragma once

#include <cstdint>

#include "policy/roofline.hpp"

namespace flexgen {

/// The token budget of a micro-batch with which the stage's job takes least time and which fits its budgets; 0, so that
/// micro_batch_tokens decides, where rows are not alike (they spread by themselves), where blocks are fixed or a budget
/// is given, and on a stage without a GPU, whose processors do all in turns.
std::int32_t choose_token_budget(const StageInput& stage);

}  // namespace flexgen

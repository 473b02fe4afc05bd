// What a model of the made-up family computes, written down a second time: plain loops in double over weights that are
// asked for by the names of its checkpoints.
#pragma once

#include <cstdint>
#include <vector>

#include "spec/model_spec.hpp"

namespace flexgen::test {

/// Logits after the last of the tokens, with the values of make_random_source.
std::vector<double> made_up_logits(const ModelSpec& model, const std::vector<std::int32_t>& tokens);

}  // namespace flexgen::test

#include "model/layer.hpp"

#include "base/error.hpp"

namespace flexgen {

void Layer::project(const OpContext&, const LayerCall&) const {
  FLEXGEN_CHECK(false, "layer '" + description_.name + "' has no attention to be done elsewhere");
}

void Layer::finish(const OpContext& context, const LayerCall& call) const { project(context, call); }

}  // namespace flexgen

// Exceptions that are none of ours, as errors that reach a user.
#pragma once

#include <exception>

#include "base/error.hpp"

namespace flexgen {

/// An Error as it is; memory or threads that the system refuses: does_not_fit; all else is a bug: internal.
Error foreign_error(const std::exception& exception);

}  // namespace flexgen

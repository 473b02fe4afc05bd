// Whether the tests were built under a sanitizer: what measures time or resident memory then measures its instruments.
#pragma once

namespace flexgen::test {

#if defined(__SANITIZE_THREAD__) || defined(__SANITIZE_ADDRESS__)
inline constexpr bool is_sanitized = true;
#else
inline constexpr bool is_sanitized = false;
#endif

}  // namespace flexgen::test

// The clock that everything in the engine is timed by.
#pragma once

#include <cstdint>

#if !defined(__wasm__)
#include <chrono>
#endif

namespace riffle {

#if defined(__wasm__)

// Nanoseconds; the same clock on all threads (src/backends/wasm/instance.ts).
extern "C" __attribute__((import_module("riffle"), import_name("now"))) double RiffleNow();
inline int64_t SteadyNow() { return static_cast<int64_t>(RiffleNow()); }

#else

// Nanoseconds of the steady clock.
inline int64_t SteadyNow() {
  return std::chrono::duration_cast<std::chrono::nanoseconds>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

#endif

// Seconds since a time of SteadyNow.
inline double SecondsSince(int64_t start) { return static_cast<double>(SteadyNow() - start) / 1e9; }

}  // namespace riffle

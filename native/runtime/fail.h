// How the engine says that it cannot go on. Natively both are exceptions. WebAssembly has none here: there JavaScript throws,
// and the instance with all that it was about is given up (native/wasm/fail.cc).
#pragma once

#include <string>

namespace riffle {

// A mistake of the caller's: std::invalid_argument.
[[noreturn]] void Refuse(const std::string& what);

// The system has no memory to give: std::bad_alloc.
[[noreturn]] void FailForMemory();

}  // namespace riffle

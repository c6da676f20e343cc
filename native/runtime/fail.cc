#include "fail.h"

#include <new>
#include <stdexcept>

#if !defined(__wasm__)

namespace riffle {

void Refuse(const std::string& what) { throw std::invalid_argument(what); }

void FailForMemory() { throw std::bad_alloc(); }

}  // namespace riffle

#endif

#include "../runtime/fail.h"

#include <string>

#include "host.h"

namespace riffle {

void Refuse(const std::string& what) { HostRefuse(what.data(), what.size()); }

void FailForMemory() { HostFailForMemory(); }

}  // namespace riffle

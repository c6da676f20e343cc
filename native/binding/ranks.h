// The ranks that this process has joined, for the files of this folder.
#pragma once

#include <memory>
#include <string>

#include "../runtime/exchange.h"
#include "../runtime/program.h"

namespace riffle {

// "none", "window", "messages" or "overlapped"; null for none. Throws std::invalid_argument, RanksError.
std::unique_ptr<Exchange> MakeExchange(const std::string& kind, const ProgramInfo& program);

}  // namespace riffle

// Which instruction sets this build has and this machine runs.
#pragma once

#include <string>
#include <vector>

#include "../kernels/kernels.h"

namespace riffle {

// From plainest to widest; the last is the one to use. Never empty.
std::vector<const KernelTable*> AvailableKernels();

// By name; "" is the widest. Throws std::invalid_argument listing what there is.
const KernelTable& ChooseKernels(const std::string& name);

}  // namespace riffle

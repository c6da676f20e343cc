// Which instruction sets this build has and this machine runs.
#pragma once

#include <string>
#include <vector>

#include "../kernels/kernels.h"

namespace riffle {

// From plainest to widest; the last is the one to use. Never empty.
std::vector<const KernelTable*> AvailableKernels();

// By name; "" is the widest. `products` says how those of bf16 are made: "dot", "unpack", or "" for the faster one, which is
// measured once. Throws std::invalid_argument listing what there is.
const KernelTable& ChooseKernels(const std::string& name, const std::string& products = "");

// The table with its bf16 products made of pairs, by instructions for bf16; null where the machine or this build has none.
const KernelTable* WithDot(const KernelTable& table);

}  // namespace riffle

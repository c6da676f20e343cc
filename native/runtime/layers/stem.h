// The stem: convolution of the 8-bit image, batch norm, ReLU and max pooling in one (kernels/stem.cc).
#pragma once

#include "layer.h"

namespace riffle {

void ReadStem(Words& words, const ProgramInfo& program, StepInfo& step);
std::unique_ptr<Layer> MakeStem(Workspace& workspace, const StepInfo& step, Needs& needs);

constexpr LayerRow kStemRow = {.read = ReadStem, .make = MakeStem};

}  // namespace riffle

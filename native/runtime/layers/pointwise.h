// 1x1 convolution (kernels/pointwise.h).
#pragma once

#include "layer.h"

namespace riffle {

void ReadPointwise(Words& words, const ProgramInfo& program, StepInfo& step);
std::unique_ptr<Layer> MakePointwise(Workspace& workspace, const StepInfo& step, Needs& needs);

constexpr LayerRow kPointwiseRow = {.read = ReadPointwise, .make = MakePointwise};

}  // namespace riffle

// Depthwise 3x3 convolution (kernels/depthwise.h).
#pragma once

#include "layer.h"

namespace riffle {

void ReadDepthwise(Words& words, const ProgramInfo& program, StepInfo& step);
std::unique_ptr<Layer> MakeDepthwise(Workspace& workspace, const StepInfo& step, Needs& needs);

constexpr LayerRow kDepthwiseRow = {.read = ReadDepthwise, .make = MakeDepthwise};

}  // namespace riffle

// Global average, dropout and the linear classifier (kernels/head.cc).
#pragma once

#include "layer.h"

namespace riffle {

void ReadHead(Words& words, const ProgramInfo& program, StepInfo& step);
std::unique_ptr<Layer> MakeHead(Workspace& workspace, const StepInfo& step, Needs& needs);

constexpr LayerRow kHeadRow = {.read = ReadHead, .make = MakeHead};

}  // namespace riffle

// What happens to the weights once a step's gradients are known.
#pragma once

#include "state.h"
#include "workspace.h"

namespace riffle {

struct UpdateSettings {
  double learning_rate, momentum, weight_decay, average_decay;
  bool nesterov;
};

// Weights, momentum and averages by the gradients, moving statistics by the step's (BatchNorm::ReadStatistics).
void ApplyUpdate(Workspace& workspace, const Weights& weights, const UpdateSettings& settings, const double* statistics);

// Whether every gradient is a number.
bool AllFinite(Workspace& workspace, const float* gradients);

// All gradients, each rounded once.
void Divide(Workspace& workspace, float* gradients, float divisor);

}  // namespace riffle

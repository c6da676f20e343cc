// Softmax cross-entropy of the logits, its gradient, and what weight decay adds to the loss.
#pragma once

#include <cstdint>

#include "loss_scale.h"
#include "workspace.h"

namespace riffle {

// What the pictures of a batch show, [batch] each.
struct Targets {
  const int32_t* labels = nullptr;
  const float* weights = nullptr;  // what a picture's loss is multiplied by; null for 1
  // Of pictures mixed of two the other's label, and the share of `labels` in the target; null where none is mixed.
  const int32_t* mixed_labels = nullptr;
  const float* shares = nullptr;
};

struct LossSettings {
  double label_smoothing = 0, weight_decay = 0;
  double scale = 1;  // of dlogits and all gradients after them
  bool of_logit = false;  // gradients are of the mean of the labels' logits, not of the cross-entropy
  const float* dropout_mask = nullptr;  // [batch, features]
};

struct StepResult {
  double cross_entropy = 0, decay_loss = 0;
  long correct1 = 0, correct5 = 0;
  bool finite = false;
  // Of a whole step: processes that had asked to stop, that abandoned it, and seconds spent in the exchange with them.
  long stops = 0, failures = 0;
  double exchange_seconds = 0;
  LossScale scale;  // after the step
};

// From the logits; leaves dlogits. `finite` is the caller's to fill.
StepResult Loss(Workspace& workspace, const Targets& targets, const float* parameters, const LossSettings& loss);

}  // namespace riffle

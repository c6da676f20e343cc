// What the loss is multiplied by, so that gradients are not too small for a narrow number format, and how that changes from
// step to step. src/backends/loss-scale.ts is the same rule.
#pragma once

namespace riffle {

enum class LossScaling { kNone, kFixed, kDynamic };

// Source of the dynamic rule and its numbers: tf.contrib.mixed_precision.ExponentialUpdateLossScaleManager, as the original
// sets it.
struct LossScale {
  LossScaling kind = LossScaling::kNone;
  float scale = 1;
  long good = 0;         // finite steps since the scale changed or a step was not finite
  long bad = 0;          // steps that were not finite since the scale changed; finite ones between do not count back
  long consecutive = 0;  // steps that were not finite since the last that was

  bool on() const { return kind != LossScaling::kNone; }
  // After a step of all shards and processes.
  void Count(bool finite);
  // Whether steps are never finite, whatever the scale: it can fall no more.
  bool IsStuck() const;
};

}  // namespace riffle

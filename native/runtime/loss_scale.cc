#include "loss_scale.h"

#include <algorithm>
#include <cmath>

namespace riffle {
namespace {

constexpr long kGrowAfter = 1000;  // finite steps in a row
constexpr long kFallAfter = 2;     // steps that are not finite
constexpr float kGrowth = 2, kFall = 0.8f, kSmallest = 1;
constexpr long kPatience = 20;  // steps that are not finite, in a row, at a scale that cannot fall

}  // namespace

void LossScale::Count(bool finite) {
  if (!on()) return;
  consecutive = finite ? 0 : consecutive + 1;
  if (kind == LossScaling::kFixed) return;
  if (finite) {
    if (++good < kGrowAfter) return;
    const float grown = scale * kGrowth;
    if (std::isfinite(grown)) scale = grown;
  } else {
    good = 0;
    if (++bad < kFallAfter) return;
    scale = std::max(kSmallest, scale * kFall);
  }
  good = bad = 0;
}

bool LossScale::IsStuck() const {
  return consecutive >= kPatience && (kind == LossScaling::kFixed || scale <= kSmallest);
}

}  // namespace riffle

// A loss scale as JavaScript hands it over: [kind, scale, good, bad, consecutive].
#pragma once

#include <stdexcept>

#include "../runtime/loss_scale.h"

namespace riffle {

inline LossScale LossScaleFrom(const double* n) {
  if (!(n[0] >= 0 && n[0] <= 2 && n[1] > 0 && n[2] >= 0 && n[3] >= 0 && n[4] >= 0)) throw std::invalid_argument("no loss scale");
  return {.kind = static_cast<LossScaling>(static_cast<int>(n[0])),
          .scale = static_cast<float>(n[1]),
          .good = static_cast<long>(n[2]),
          .bad = static_cast<long>(n[3]),
          .consecutive = static_cast<long>(n[4])};
}

}  // namespace riffle

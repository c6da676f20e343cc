#include "update.h"

#include <algorithm>
#include <vector>

namespace riffle {

void ApplyUpdate(Workspace& ws, const Weights& w, const UpdateSettings& settings, const double* statistics) {
  const Update base = {.parameters = w.parameters,
                       .momentum = w.momentum,
                       .averages = w.averages,
                       .gradients = w.gradients,
                       .learning_rate = 0.0f,
                       .momentum_factor = static_cast<float>(settings.momentum),
                       .weight_decay = 0.0f,
                       .average_decay = static_cast<float>(settings.average_decay),
                       .nesterov = settings.nesterov};
  ws.pool.Run(Chunks(ws.program.trained_count), [&](long t, int) {
    ForEachSegment(ws.program, t, [&](long begin, long end, const Segment& s) {
      Update u = base;
      u.learning_rate = static_cast<float>(settings.learning_rate * s.rate);
      u.weight_decay = s.decay ? static_cast<float>(settings.weight_decay) : 0.0f;
      ws.kernels.update(u, begin, end);
    });
  });
  ws.norm.UpdateMoving(w.statistics, statistics);
}

bool AllFinite(Workspace& ws, const float* gradients) {
  const long count = ws.program.trained_count, chunks = Chunks(count);
  std::vector<char> finite(chunks);
  ws.pool.Run(chunks, [&](long t, int) {
    finite[t] = ws.kernels.all_finite(gradients + t * kChunk, std::min(kChunk, count - t * kChunk));
  });
  return std::all_of(finite.begin(), finite.end(), [](char f) { return f; });
}

void Divide(Workspace& ws, float* gradients, float divisor) {
  const long count = ws.program.trained_count;
  ws.pool.Run(Chunks(count), [&](long t, int) {
    const long end = std::min((t + 1) * kChunk, count);
    for (long i = t * kChunk; i < end; ++i) gradients[i] /= divisor;
  });
}

}  // namespace riffle

#include "update.h"

#include <algorithm>
#include <vector>

namespace riffle {

void ApplyUpdate(Workspace& ws, const Weights& w, const UpdateSettings& settings) {
  std::vector<Segment> ranges;
  for (const Segment& s : ws.program.segments)
    for (long begin = s.begin; begin < s.end; begin += kChunk)
      ranges.push_back({begin, std::min(begin + kChunk, s.end), s.decay});
  const Update base = {.parameters = w.parameters,
                       .momentum = w.momentum,
                       .averages = w.averages,
                       .gradients = w.gradients,
                       .learning_rate = static_cast<float>(settings.learning_rate),
                       .momentum_factor = static_cast<float>(settings.momentum),
                       .weight_decay = 0.0f,
                       .average_decay = static_cast<float>(settings.average_decay),
                       .nesterov = settings.nesterov};
  ws.pool.Run(static_cast<long>(ranges.size()), [&](long t, int) {
    Update u = base;
    u.weight_decay = ranges[t].decay ? static_cast<float>(settings.weight_decay) : 0.0f;
    ws.kernels.update(u, ranges[t].begin, ranges[t].end);
  });
  ws.norm.UpdateMoving(w.statistics);
}

bool AllFinite(Workspace& ws, const float* gradients) {
  const long count = ws.program.parameter_count, chunks = (count + kChunk - 1) / kChunk;
  std::vector<char> finite(chunks);
  ws.pool.Run(chunks, [&](long t, int) {
    finite[t] = ws.kernels.all_finite(gradients + t * kChunk, std::min(kChunk, count - t * kChunk));
  });
  return std::all_of(finite.begin(), finite.end(), [](char f) { return f; });
}

}  // namespace riffle

#include "loss.h"

#include <cmath>

namespace riffle {

StepResult Loss(Workspace& ws, const Targets& targets, const float* parameters, const LossSettings& loss) {
  const ProgramInfo& p = ws.program;
  const long classes = p.classes;
  std::vector<double> each(p.batch);
  std::vector<char> first(p.batch), five(p.batch);
  ws.pool.Run(p.batch, [&](long n, int) {
    const float* logits = ws.logits.data() + n * classes;
    float* dlogits = ws.dlogits.data() + n * classes;
    const int32_t label = targets.labels[n];
    const float label_logit = logits[label];
    const double weight = targets.weights ? targets.weights[n] : 1;
    const bool is_mixed = targets.mixed_labels && targets.mixed_labels[n] != label;
    const int32_t other = is_mixed ? targets.mixed_labels[n] : label;
    const double share = is_mixed ? targets.shares[n] : 1;
    const double shown_logit = is_mixed ? share * label_logit + (1 - share) * logits[other] : label_logit;
    double largest = logits[0], sum_logits = 0;
    long above = 0, above_or_first = 0;
    bool finite = true;
    for (long c = 0; c < classes; ++c) {
      largest = std::max<double>(largest, logits[c]);
      sum_logits += logits[c];
      finite &= std::isfinite(logits[c]);
      above += logits[c] > label_logit;
      above_or_first += logits[c] > label_logit || (logits[c] == label_logit && c < label);
    }
    double total = 0;
    for (long c = 0; c < classes; ++c) total += std::exp(logits[c] - largest);
    const double log_total = largest + std::log(total);
    // target = (1 - s) shown + s / classes, shown being the label's one, or the two labels' shares; so the loss is
    // log_total - (1 - s) logit of what is shown - s * mean logit.
    const double s = loss.label_smoothing;
    each[n] = weight * (log_total - (1 - s) * shown_logit - s * sum_logits / static_cast<double>(classes));
    for (long c = 0; c < classes; ++c) {
      const double shown = c == label ? share : is_mixed && c == other ? 1 - share : 0;
      const double target = shown * (1 - s) + s / static_cast<double>(classes);
      const double slope = loss.of_logit ? shown : std::exp(logits[c] - log_total) - target;
      dlogits[c] = static_cast<float>(weight * slope / p.batch * loss.scale);
    }
    // tf.math.in_top_k's rule: a row that is not finite is right in no rank.
    first[n] = finite && above_or_first == 0;
    five[n] = finite && above < 5;
  });
  StepResult result;
  for (long n = 0; n < p.batch; ++n) {
    result.cross_entropy += each[n] / p.batch;
    result.correct1 += first[n];
    result.correct5 += five[n];
  }
  std::vector<double> squares(Chunks(p.trained_count));
  ws.pool.Run(Chunks(p.trained_count), [&](long t, int) {
    ForEachSegment(p, t, [&](long begin, long end, const Segment& s) {
      if (s.decay) squares[t] += ws.kernels.sum_of_squares(parameters + begin, end - begin);
    });
  });
  for (double v : squares) result.decay_loss += loss.weight_decay * v / 2;
  return result;
}

}  // namespace riffle

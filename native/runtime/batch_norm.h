// Batch norm, which no step runs by itself: six numbers per plane. Whoever writes a plane leaves its mean and
// variance here, whoever reads it takes scale and shift from here, and backward the same with two sums.
#pragma once

#include <vector>

#include "../kernels/kernels.h"
#include "exchange.h"
#include "program.h"
#include "state.h"

namespace riffle {

enum class Table { kMean, kVariance, kScale, kShift, kGradientSum, kGradientDot };

class BatchNorm {
 public:
  explicit BatchNorm(const ProgramInfo& program);
  // From here on statistics are those of all processes' batches together. The exchange outlives this.
  void Synchronise(Exchange* exchange);

  // Scale and shift of a plane from its mean and (biased) variance.
  void Normalise(int plane, double mean, double variance, const float* parameters);
  // Sums of z and z * z over the batch, and then scale and shift of `count` planes from them.
  void SetSums(int plane, double sum, double squares) {
    sum_[plane] = sum;
    squares_[plane] = squares;
  }
  // Nothing where the statistics are kept: NormaliseByMoving has been called for all planes then.
  void NormaliseByBatch(int first, int count, const float* parameters);
  // The first planes, from the moving statistics [2][all planes].
  void NormaliseByMoving(const float* statistics, const float* parameters, int planes);

  // Of an output, dz = a * g + b * z + c, in full.
  struct Coefficients {
    double a, b, c;
  };
  // dgamma and dbeta of the step's outputs into the gradients; their dz, valid until the next call.
  const std::vector<Coefficients>& OutputGradients(const StepInfo& step, const Weights& weights);
  void SetGradientSums(int plane, double sum, double dot) {
    gradient_sum_[plane] = sum;
    gradient_dot_[plane] = dot;
  }

  // Of the last batch: means, then unbiased variances, [2][planes].
  void ReadStatistics(double* out) const;
  // The moving statistics [2][planes] after a step with such; those of frozen planes stay, as all do that are kept.
  void UpdateMoving(float* moving, const double* statistics) const;

  float scale(int plane) const { return scale_[plane]; }
  float shift(int plane) const { return shift_[plane]; }
  double mean(int plane) const { return mean_[plane]; }
  double variance(int plane) const { return variance_[plane]; }
  double gradient_sum(int plane) const { return gradient_sum_[plane]; }
  double gradient_dot(int plane) const { return gradient_dot_[plane]; }
  // Values of a plane in the batch of this process.
  long count(int plane) const { return count_[plane]; }
  void set_count(int plane, long count) { count_[plane] = count; }

  void ReadTable(Table table, double* out) const;
  void WriteTable(Table table, const double* in);

 private:
  // Values that the statistics of a plane average over.
  double Values(int plane) const { return static_cast<double>(count_[plane]) * processes_; }

  const ProgramInfo& p_;
  Exchange* exchange_ = nullptr;
  int processes_ = 1;
  std::vector<double> shared_;  // sums on their way
  std::vector<Coefficients> coefficients_;
  std::vector<double> sum_, squares_, mean_, variance_, gradient_sum_, gradient_dot_;
  std::vector<float> scale_, shift_;
  std::vector<long> count_;
};

}  // namespace riffle

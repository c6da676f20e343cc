// Batch norm, which no step runs by itself: six numbers per plane. Whoever writes a plane leaves its mean and
// variance here, whoever reads it takes scale and shift from here, and backward the same with two sums.
#pragma once

#include <vector>

#include "../kernels/kernels.h"
#include "program.h"
#include "state.h"

namespace riffle {

enum class Table { kMean, kVariance, kScale, kShift, kGradientSum, kGradientDot };

class BatchNorm {
 public:
  explicit BatchNorm(const ProgramInfo& program);

  // Scale and shift of a plane from its mean and (biased) variance.
  void Normalise(int plane, double mean, double variance, const float* parameters);
  // The same from the sums of z and z * z over the batch.
  void NormaliseByBatch(int plane, double sum, double squares, const float* parameters);
  // The first planes, from the moving statistics [2][all planes].
  void NormaliseByMoving(const float* statistics, const float* parameters, int planes);

  // dgamma and dbeta of the step's outputs into the gradients; their dz, in `out`.
  void OutputGradients(const StepInfo& step, float* arena, const Weights& weights, std::vector<OutputGradient>& out) const;
  void SetGradientSums(int plane, double sum, double dot) {
    gradient_sum_[plane] = sum;
    gradient_dot_[plane] = dot;
  }

  // The moving statistics [2][planes] after a step; those of frozen planes stay.
  void UpdateMoving(float* statistics) const;

  float scale(int plane) const { return scale_[plane]; }
  float shift(int plane) const { return shift_[plane]; }
  double mean(int plane) const { return mean_[plane]; }
  double variance(int plane) const { return variance_[plane]; }
  double gradient_sum(int plane) const { return gradient_sum_[plane]; }
  double gradient_dot(int plane) const { return gradient_dot_[plane]; }
  // Values that the batch statistics of a plane average over.
  long count(int plane) const { return count_[plane]; }
  void set_count(int plane, long count) { count_[plane] = count; }

  void ReadTable(Table table, double* out) const;
  void WriteTable(Table table, const double* in);

 private:
  const ProgramInfo& p_;
  std::vector<double> mean_, variance_, gradient_sum_, gradient_dot_;
  std::vector<float> scale_, shift_;
  std::vector<long> count_;
};

}  // namespace riffle

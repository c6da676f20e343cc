#include "batch_norm.h"

#include <algorithm>
#include <cmath>

namespace riffle {

BatchNorm::BatchNorm(const ProgramInfo& program) : p_(program) {
  const size_t planes = p_.planes.size();
  mean_.assign(planes, 0);
  variance_.assign(planes, 1);
  gradient_sum_.assign(planes, 0);
  gradient_dot_.assign(planes, 0);
  scale_.assign(planes, 1);
  shift_.assign(planes, 0);
  for (const PlaneInfo& plane : p_.planes) count_.push_back(p_.batch * plane.height * plane.width);
}

void BatchNorm::Normalise(int plane, double mean, double variance, const float* parameters) {
  mean_[plane] = mean;
  variance_[plane] = variance;
  const double scale = parameters[p_.planes[plane].gamma] / std::sqrt(variance + p_.epsilon);
  scale_[plane] = static_cast<float>(scale);
  shift_[plane] = static_cast<float>(parameters[p_.planes[plane].beta] - mean * scale);
}

void BatchNorm::NormaliseByBatch(int plane, double sum, double squares, const float* parameters) {
  const double n = static_cast<double>(count_[plane]);
  const double mean = sum / n;
  Normalise(plane, mean, std::max(squares / n - mean * mean, 0.0), parameters);
}

void BatchNorm::NormaliseByMoving(const float* statistics, const float* parameters, int planes) {
  for (int i = 0; i < planes; ++i) Normalise(i, statistics[i], statistics[p_.planes.size() + i], parameters);
}

// With zhat = (z - mean) / sigma:  dbeta = sum g,  dgamma = sum g * zhat,
//   dz = gamma / sigma * (g - dbeta / n - zhat * dgamma / n) = a g + b z + c.
void BatchNorm::OutputGradients(const StepInfo& s, float* arena, const Weights& w,
                                std::vector<OutputGradient>& out) const {
  out.resize(s.count);
  for (int i = 0; i < s.count; ++i) {
    const int plane = s.first + i;
    const PlaneInfo& info = p_.planes[plane];
    const double n = static_cast<double>(count_[plane]);
    const double inverse = 1.0 / std::sqrt(variance_[plane] + p_.epsilon);
    const double dbeta = gradient_sum_[plane];
    const double dgamma = (gradient_dot_[plane] - mean_[plane] * dbeta) * inverse;
    w.gradients[info.beta] = static_cast<float>(dbeta);
    w.gradients[info.gamma] = static_cast<float>(dgamma);
    const double a = w.parameters[info.gamma] * inverse;
    const double b = -a * inverse * dgamma / n;
    const double c = -a * dbeta / n - b * mean_[plane];
    out[i] = {AtByte(arena, info.gradient), AtByte(arena, info.value), static_cast<float>(a), static_cast<float>(b),
              static_cast<float>(c)};
  }
}

void BatchNorm::UpdateMoving(float* statistics) const {
  const size_t planes = p_.planes.size();
  const double share = 1.0 - p_.momentum;
  for (size_t i = p_.frozen_planes; i < planes; ++i) {
    const double n = static_cast<double>(count_[i]);
    const double unbiased = variance_[i] * n / std::max(n - 1.0, 1.0);
    float& moving_mean = statistics[i];
    float& moving_variance = statistics[planes + i];
    moving_mean -= static_cast<float>(share * (moving_mean - mean_[i]));
    moving_variance -= static_cast<float>(share * (moving_variance - unbiased));
  }
}

void BatchNorm::ReadTable(Table table, double* out) const {
  const auto copy = [&](const auto& values) { std::copy(values.begin(), values.end(), out); };
  switch (table) {
    case Table::kMean: return copy(mean_);
    case Table::kVariance: return copy(variance_);
    case Table::kScale: return copy(scale_);
    case Table::kShift: return copy(shift_);
    case Table::kGradientSum: return copy(gradient_sum_);
    case Table::kGradientDot: return copy(gradient_dot_);
  }
}

void BatchNorm::WriteTable(Table table, const double* in) {
  const auto copy = [&](auto& values) { std::copy_n(in, values.size(), values.begin()); };
  switch (table) {
    case Table::kMean: return copy(mean_);
    case Table::kVariance: return copy(variance_);
    case Table::kScale: return copy(scale_);
    case Table::kShift: return copy(shift_);
    case Table::kGradientSum: return copy(gradient_sum_);
    case Table::kGradientDot: return copy(gradient_dot_);
  }
}

}  // namespace riffle

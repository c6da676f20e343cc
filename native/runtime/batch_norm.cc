#include "batch_norm.h"

#include <algorithm>
#include <cmath>

namespace riffle {

BatchNorm::BatchNorm(const ProgramInfo& program) : p_(program) {
  const size_t planes = p_.planes.size();
  sum_.assign(planes, 0);
  squares_.assign(planes, 0);
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

void BatchNorm::Synchronise(Exchange* exchange) {
  exchange_ = exchange;
  processes_ = exchange ? exchange->size() : 1;
}

void BatchNorm::NormaliseByBatch(int first, int count, const float* parameters) {
  if (p_.keeps_statistics) return;  // these planes are normalised since the step began
  if (exchange_) {
    shared_.assign(sum_.begin() + first, sum_.begin() + first + count);
    shared_.insert(shared_.end(), squares_.begin() + first, squares_.begin() + first + count);
    exchange_->Sum(shared_.data(), 2L * count);
    std::copy_n(shared_.begin(), count, sum_.begin() + first);
    std::copy_n(shared_.begin() + count, count, squares_.begin() + first);
  }
  for (int plane = first; plane < first + count; ++plane) {
    const double n = Values(plane);
    const double mean = sum_[plane] / n;
    Normalise(plane, mean, std::max(squares_[plane] / n - mean * mean, 0.0), parameters);
  }
}

void BatchNorm::NormaliseByMoving(const float* statistics, const float* parameters, int planes) {
  for (int i = 0; i < planes; ++i) Normalise(i, statistics[i], statistics[p_.planes.size() + i], parameters);
}

// With zhat = (z - mean) / sigma:  dbeta = sum g,  dgamma = sum g * zhat,
//   dz = gamma / sigma * (g - dbeta / n - zhat * dgamma / n) = a g + b z + c.
// By statistics that do not depend on z, dz = a g.
const std::vector<BatchNorm::Coefficients>& BatchNorm::OutputGradients(const StepInfo& s, const Weights& w) {
  coefficients_.resize(s.count);
  // dgamma and dbeta stay those of this process' loss, for gradients are added up later; dz wants the sums over all.
  shared_.assign(gradient_sum_.begin() + s.first, gradient_sum_.begin() + s.first + s.count);
  shared_.insert(shared_.end(), gradient_dot_.begin() + s.first, gradient_dot_.begin() + s.first + s.count);
  if (exchange_ && !p_.keeps_statistics) exchange_->Sum(shared_.data(), 2L * s.count);
  for (int i = 0; i < s.count; ++i) {
    const int plane = s.first + i;
    const PlaneInfo& info = p_.planes[plane];
    const double n = Values(plane);
    const double inverse = 1.0 / std::sqrt(variance_[plane] + p_.epsilon);
    w.gradients[info.beta] = static_cast<float>(gradient_sum_[plane]);
    w.gradients[info.gamma] = static_cast<float>((gradient_dot_[plane] - mean_[plane] * gradient_sum_[plane]) * inverse);
    const double dbeta = shared_[i];
    const double dgamma = (shared_[s.count + i] - mean_[plane] * dbeta) * inverse;
    const double a = w.parameters[info.gamma] * inverse;
    if (p_.keeps_statistics) {
      coefficients_[i] = {a, 0, 0};
      continue;
    }
    const double b = -a * inverse * dgamma / n;
    const double c = -a * dbeta / n - b * mean_[plane];
    coefficients_[i] = {a, b, c};
  }
  return coefficients_;
}

void BatchNorm::ReadStatistics(double* out) const {
  const size_t planes = p_.planes.size();
  for (size_t i = 0; i < planes; ++i) {
    const double n = Values(static_cast<int>(i));
    out[i] = mean_[i];
    out[planes + i] = variance_[i] * n / std::max(n - 1.0, 1.0);
  }
}

void BatchNorm::UpdateMoving(float* moving, const double* statistics) const {
  if (p_.keeps_statistics) return;
  const size_t planes = p_.planes.size();
  const double share = 1.0 - p_.momentum;
  const auto move = [&](size_t i) { moving[i] -= static_cast<float>(share * (moving[i] - statistics[i])); };
  for (size_t i = p_.frozen_planes; i < planes; ++i) {
    move(i);
    move(planes + i);
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

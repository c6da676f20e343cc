// Momentum SGD with averages, and the sums over parameters that a step reports.
#include "kernels.h"
#include "tile.h"

namespace riffle::RIFFLE_ISA {

void UpdateRange(const Update& u, long begin, long end) {
  const float average_share = 1.0f - u.average_decay;
  for (long i = begin; i < end; ++i) {
    const float w = u.parameters[i];
    const float g = u.gradients[i] + u.weight_decay * w;
    const float a = u.momentum_factor * u.momentum[i] + g;
    const float direction = u.nesterov ? g + u.momentum_factor * a : a;
    const float updated = w - u.learning_rate * direction;
    u.momentum[i] = a;
    u.parameters[i] = updated;
    // TensorFlow's form of the average: it is exact when both sides are equal.
    u.averages[i] -= average_share * (u.averages[i] - updated);
  }
}

void SumParts(const float* parts, long count, long stride, long begin, long end, float* out) {
  typedef float Half __attribute__((vector_size(kLanes * 2)));
  typedef float HalfAnywhere __attribute__((vector_size(kLanes * 2), aligned(4), may_alias));
  typedef double Doubles __attribute__((vector_size(kLanes * 4)));
  long i = begin;
  for (; i + kLanes <= end; i += kLanes) {
    Doubles low = Doubles{}, high = Doubles{};
    for (long p = 0; p < count; ++p) {
      const HalfAnywhere* at = reinterpret_cast<const HalfAnywhere*>(parts + p * stride + i);
      low += __builtin_convertvector(static_cast<Half>(at[0]), Doubles);
      high += __builtin_convertvector(static_cast<Half>(at[1]), Doubles);
    }
    HalfAnywhere* to = reinterpret_cast<HalfAnywhere*>(out + i);
    to[0] = __builtin_convertvector(low, Half);
    to[1] = __builtin_convertvector(high, Half);
  }
  for (; i < end; ++i) {
    double sum = 0.0;
    for (long p = 0; p < count; ++p) sum += parts[p * stride + i];
    out[i] = static_cast<float>(sum);
  }
}

double SumOfSquares(const float* x, long count) {
  double total = 0.0;
  long i = 0;
  for (; i + 64 * kLanes <= count; i += 64 * kLanes) {
    Vec sum = Vec{};
    for (long j = 0; j < 64 * kLanes; j += kLanes) sum += Load(x + i + j) * Load(x + i + j);
    total += Sum(sum);
  }
  for (; i < count; ++i) total += static_cast<double>(x[i]) * x[i];
  return total;
}

// x - x is 0 for finite numbers and NaN for the others, and NaN stays through additions.
bool AllFinite(const float* x, long count) {
  Vec sum = Vec{};
  long i = 0;
  for (; i + kLanes <= count; i += kLanes) {
    const Vec v = Load(x + i);
    sum += v - v;
  }
  float rest = Sum(sum);
  for (; i < count; ++i) rest += x[i] - x[i];
  return rest == 0.0f;
}

template <class Mode>
double ProductBurst(long rounds, float* sink) {
  [[maybe_unused]] const Arithmetic<typename Mode::Plane> arithmetic;
  // As many independent chains as a row tile has accumulators, each with a start of its own, or one would stand for all.
  Vec sum[kRows][kVecs];
#pragma GCC unroll 16
  for (int r = 0; r < kRows; ++r)
#pragma GCC unroll 4
    for (int v = 0; v < kVecs; ++v) sum[r][v] = Set(1.0f + r * kVecs + v);
  // As pairs of bf16 about 1 and 0: the lower half of the first is a denormal.
  const Vec factor = Set(1.0000001f + *sink * 0.0f), other = Set(1e-9f);
  for (long i = 0; i < rounds; ++i)
#pragma GCC unroll 16
    for (int r = 0; r < kRows; ++r)
#pragma GCC unroll 4
      for (int v = 0; v < kVecs; ++v) {
        if constexpr (Mode::kPairs) {
          MultiplyAdd<true>(sum[r][v], factor, other);
        } else {
          sum[r][v] = sum[r][v] * factor + other;
        }
      }
  // Unrolled like the loop above: an array that is walked here would be stored in every round there.
  Vec total = Vec{};
#pragma GCC unroll 16
  for (int r = 0; r < kRows; ++r)
#pragma GCC unroll 4
    for (int v = 0; v < kVecs; ++v) total += sum[r][v];
  *sink = Sum(total);
  return rounds * (2.0 * kRows * kVecs * kLanes * (Mode::kPairs ? 2 : 1)) / 1e9;
}

}  // namespace riffle::RIFFLE_ISA

// The optimizer's step and the sums over parameters, at lengths around the vector width.
#include "check.h"

namespace riffle::test {
namespace {

void TestStep(const KernelTable& k) {
  Test test(k.name, "update");
  uint32_t seed = 1;
  for (long count : {1, 3, 4, 7, 8, 9, 15, 16, 17, 31, 33, 100})
    for (long begin : {0, 1, 5})
      for (bool nesterov : {false, true})
        for (float average_decay : {0.0f, 0.9f}) {
          if (begin >= count) continue;
          const long end = count - begin / 2;
          test.Case("elements %ld to %ld of %ld, nesterov %d, averages %g", begin, end, count, nesterov, average_decay);
          Numbers numbers(seed++);
          Memory memory;
          std::vector<float> w, m, v, g;
          for (long i = 0; i < count; ++i)
            for (std::vector<float>* values : {&w, &m, &v, &g}) values->push_back(numbers.Uniform());
          const auto copy = [&](const std::vector<float>& values) {
            return std::copy(values.begin(), values.end(), memory.Output(count)) - count;
          };
          const Update u = {.parameters = copy(w),
                            .momentum = copy(m),
                            .averages = copy(v),
                            .gradients = memory.Input(g),
                            .learning_rate = 0.1f,
                            .momentum_factor = 0.9f,
                            .weight_decay = seed % 2 ? 0.01f : 0.0f,
                            .average_decay = average_decay,
                            .nesterov = nesterov};
          k.update(u, begin, end);
          for (long i = 0; i < count; ++i) {
            if (i < begin || i >= end) {
              test.True(u.parameters[i] == w[i] && u.momentum[i] == m[i] && u.averages[i] == v[i],
                        "an element outside the range was changed");
              continue;
            }
            const double gradient = g[i] + static_cast<double>(u.weight_decay) * w[i];
            const double momentum = static_cast<double>(u.momentum_factor) * m[i] + gradient;
            const double direction = nesterov ? gradient + static_cast<double>(u.momentum_factor) * momentum : momentum;
            const double updated = w[i] - static_cast<double>(u.learning_rate) * direction;
            const double average = v[i] + (1 - static_cast<double>(average_decay)) * (updated - v[i]);
            // At most eight roundings on the way, of numbers at most 4.
            constexpr double kAllowed = 8 * 4 * 0x1p-24;
            test.Near("momentum", i, u.momentum[i], momentum, kAllowed);
            test.Near("parameter", i, u.parameters[i], updated, kAllowed);
            test.Near("average", i, u.averages[i], average, kAllowed);
          }
          memory.Verify(test);
        }
}

// Where a range begins and ends decides which elements go through vectors and which one by one; the bits may not
// depend on it, for the array is cut by what decays and what does not.
void TestCuts(const KernelTable& k) {
  Test test(k.name, "update, cut anywhere");
  constexpr long kCount = 83;
  Numbers numbers(5);
  std::vector<float> start[3], g;
  for (long i = 0; i < kCount; ++i) {
    for (std::vector<float>& values : start) values.push_back(numbers.Uniform());
    g.push_back(numbers.Uniform());
  }
  for (bool nesterov : {false, true})
    for (long cut = 0; cut <= kCount; ++cut) {
      test.Case("cut at %ld, nesterov %d", cut, nesterov);
      std::vector<float> whole[3] = {start[0], start[1], start[2]}, parts[3] = {start[0], start[1], start[2]};
      const auto update = [&](std::vector<float>* values) {
        return Update{.parameters = values[0].data(),
                      .momentum = values[1].data(),
                      .averages = values[2].data(),
                      .gradients = g.data(),
                      .learning_rate = 0.1f,
                      .momentum_factor = 0.9f,
                      .weight_decay = 0.01f,
                      .average_decay = 0.9f,
                      .nesterov = nesterov};
      };
      k.update(update(whole), 0, kCount);
      k.update(update(parts), 0, cut);
      k.update(update(parts), cut, kCount);
      for (int i = 0; i < 3; ++i)
        test.True(std::memcmp(whole[i].data(), parts[i].data(), kCount * sizeof(float)) == 0, "other bits");
    }
}

void TestSums(const KernelTable& k) {
  Test squares(k.name, "sum_of_squares"), finite(k.name, "all_finite");
  for (long count : {0, 1, 3, 4, 5, 8, 15, 16, 17, 33, 255, 256, 257, 1023, 1024, 1025, 2500}) {
    squares.Case("%ld elements", count);
    finite.Case("%ld elements", count);
    Numbers numbers(static_cast<uint32_t>(count));
    Memory memory;
    std::vector<float> values;
    BoundedSum expected;
    for (long i = 0; i < count; ++i) {
      values.push_back(numbers.Uniform());
      expected.Add(static_cast<double>(values.back()) * values.back());
    }
    const float* x = memory.Input(values);
    squares.Near("sum", 0, k.sum_of_squares(x, count), expected);
    finite.True(k.all_finite(x, count), "finite numbers are called not finite");
    const float infinity = std::numeric_limits<float>::infinity(), nan = std::numeric_limits<float>::quiet_NaN();
    const float largest = std::numeric_limits<float>::max();
    float* changed = memory.Output(count);
    for (float odd : {infinity, -infinity, nan, largest, -largest})
      for (long at = 0; at < count; at += count > 64 ? 37 : 1) {
        std::copy(values.begin(), values.end(), changed);
        changed[at] = odd;
        finite.True(k.all_finite(changed, count) == (std::fabs(odd) == largest), "one element decides, wherever it is");
      }
    memory.Verify(squares);
    memory.Verify(finite);
  }
}

void TestParts(const KernelTable& k) {
  Test test(k.name, "sum_parts");
  uint32_t seed = 1;
  for (long size : {1, 3, 4, 7, 8, 9, 15, 16, 17, 33, 70})
    for (long count : {1, 2, 5, 16})
      for (long slack : {0, 5})
        for (long begin : {0, 1, 6}) {
          if (begin >= size) continue;
          const long end = size - begin / 2, stride = size + slack;
          test.Case("elements %ld to %ld of %ld, %ld parts, %ld more between parts", begin, end, size, count, slack);
          Numbers numbers(seed++);
          Memory memory;
          std::vector<float> parts;
          for (long i = 0; i < (count - 1) * stride + size; ++i) parts.push_back(numbers.Uniform());
          float* out = memory.Output(size);
          k.sum_parts(memory.Input(parts), count, stride, begin, end, out);
          for (long i = 0; i < size; ++i) {
            double expected = 0;
            for (long p = 0; p < count; ++p) expected += parts[p * stride + i];
            if (i >= begin && i < end) {
              test.Near("sum", i, out[i], static_cast<float>(expected), 0);
            } else {
              test.True(std::isnan(out[i]), "an element outside the range was written");
            }
          }
          memory.Verify(test);
        }
}

}  // namespace

void TestUpdate(const KernelTable& kernels) {
  TestStep(kernels);
  TestCuts(kernels);
  TestParts(kernels);
  TestSums(kernels);
}

}  // namespace riffle::test

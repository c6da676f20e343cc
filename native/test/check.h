// What the kernel tests share: guarded memory, numbers to compute with, and one way to report a difference.
//
// Memory handed to a kernel lies between guards of 1024 floats. Outputs begin as NaN, so an element that is not
// written shows; inputs are compared with a copy afterwards. Under AddressSanitizer the guards are poisoned, so
// reading one is an error too.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <limits>
#include <string>
#include <vector>

#include "../kernels/kernels.h"

namespace riffle::test {

// Small fractions whose products and short sums f32 holds exactly, so a ReLU's mask cannot depend on rounding;
// exact zeros occur.
class Numbers {
 public:
  explicit Numbers(uint32_t seed) : state_(seed * 2654435761u + 1) {}

  uint32_t Word() {  // xorshift32
    state_ ^= state_ << 13;
    state_ ^= state_ >> 17;
    state_ ^= state_ << 5;
    return state_;
  }
  long Below(long n) { return static_cast<long>(Word() % static_cast<uint32_t>(n)); }
  bool Coin() { return (Word() >> 16) % 2 != 0; }
  // A multiple of 1/parts in [-limit, limit].
  float Fraction(int parts, int limit) {
    return static_cast<float>(Below(2L * parts * limit + 1) - static_cast<long>(parts) * limit) / static_cast<float>(parts);
  }
  // Any float in [-1, 1).
  float Uniform() { return static_cast<float>(static_cast<int32_t>(Word())) * 0x1p-31f; }

 private:
  uint32_t state_;
};

// An exact sum and how far f32 may be from it.
//
// A sum of n products, in any order, with or without fused multiply-adds, is off by at most
// n * u / (1 - n * u) * sum |product|, u = 2^-24 (Higham, Accuracy and Stability of Numerical Algorithms, section
// 3.1). Three more roundings are allowed for what is done to the sum after. `depth` counts the additions on the
// way to a value, `magnitude` is the same sum of absolute values; sums and products of sums carry both along.
struct BoundedSum {
  double value = 0, magnitude = 0;
  double terms = 0, depth = 0;

  void Add(double product) { Add({product, std::fabs(product), 0, 0}); }
  void Add(const BoundedSum& other) {
    value += other.value;
    magnitude += other.magnitude;
    terms += 1;
    depth = std::max(depth, other.terms + other.depth);
  }
  BoundedSum operator*(const BoundedSum& other) const {
    return {value * other.value, magnitude * other.magnitude, 1, terms + depth + other.terms + other.depth};
  }
  BoundedSum operator*(double factor) const { return {value * factor, magnitude * std::fabs(factor), 1, terms + depth}; }
  double Bound() const { return (terms + depth + 3) * 0x1.001p-24 * magnitude; }
};

// One test: a kernel on one instruction set, over many shapes. Prints a line when it ends.
class Test {
 public:
  Test(const std::string& isa, const std::string& kernel) : name_(isa + " " + kernel) {}
  ~Test();
  Test(const Test&) = delete;
  Test& operator=(const Test&) = delete;

  // Begins a case; the arguments describe the shape, for a message.
  template <class... Values>
  void Case(const char* format, Values... values) {
    std::snprintf(case_, sizeof case_, format, values...);
    ++cases_;
  }
  // |actual - expected| <= allowed, NaN never.
  void Near(const char* what, long index, double actual, double expected, double allowed);
  void Near(const char* what, long index, double actual, const BoundedSum& expected) {
    Near(what, index, actual, expected.value, expected.Bound());
  }
  void Same(const char* what, long index, long actual, long expected);
  void True(bool holds, const char* what);

  // Every how many-th shape of a long list is tested: 1, or more under an emulator.
  static int every;
  static int passed, failed, skipped;

 private:
  void Fail(const char* message);

  std::string name_;
  char case_[256] = "";
  long cases_ = 0, checks_ = 0, failures_ = 0;
  double worst_ = 0;  // largest difference, as a share of what was allowed
  std::string worst_at_ = "none";
};

template <class Shape>
std::vector<Shape> Thinned(const std::vector<Shape>& all) {
  std::vector<Shape> some;
  for (size_t i = 0; i < all.size(); i += Test::every) some.push_back(all[i]);
  return some;
}

// All memory of one case.
class Memory {
 public:
  Memory() = default;
  ~Memory();
  Memory(const Memory&) = delete;
  Memory& operator=(const Memory&) = delete;

  // Starts on a 64-byte line; NaN (0xff bytes).
  template <class T = float>
  T* Output(size_t count) {
    return reinterpret_cast<T*>(Allocate(count * sizeof(T)));
  }
  float* Scratch(size_t floats) { return Output(floats); }
  template <class T>
  T* Input(const std::vector<T>& values) {
    T* data = Output<T>(values.size());
    std::copy(values.begin(), values.end(), data);
    Freeze();
    return data;
  }
  // A plane of `count` values: NaN, or those given. What a plane owns behind them is NaN.
  float* OutputPlane(long count) { return Output(PlaneFloats(count)); }
  float* InputPlane(const std::vector<float>& values) {
    float* plane = OutputPlane(static_cast<long>(values.size()));
    std::copy(values.begin(), values.end(), plane);
    Freeze();
    return plane;
  }

  // Guards intact and inputs as they were.
  void Verify(Test& test);

  static size_t PlaneFloats(long count) { return static_cast<size_t>(count + 31) / 32 * 32 + 16; }

 private:
  struct Block {
    std::byte* begin;  // of the front guard
    size_t bytes;      // of the data
    std::vector<std::byte> frozen;
  };

  std::byte* Allocate(size_t bytes);
  // What the last block holds must not change.
  void Freeze();

  std::vector<Block> blocks_;
};

// Values scale * z + shift that f32 computes exactly.
struct RandomPlane {
  std::vector<float> z;
  float scale, shift;
  bool relu;

  RandomPlane(Numbers& numbers, long count) : scale(numbers.Fraction(8, 2)), shift(numbers.Fraction(8, 2)), relu(numbers.Coin()) {
    z.reserve(count);
    for (long i = 0; i < count; ++i) z.push_back(numbers.Fraction(64, 2));
  }
  double y(long i) const {
    const double v = static_cast<double>(scale) * z[i] + shift;
    return relu && v < 0 ? 0 : v;
  }
  // Whether a gradient passes: not where y is 0.
  bool open(long i) const { return !relu || y(i) > 0; }
  InputPlane<float> In(Memory& memory) const { return {memory.InputPlane(z), scale, shift, relu}; }
};

// A plane's gradient dz = a*g + b*z + c.
struct RandomGradient {
  std::vector<float> g, z;
  float a, b, c;

  RandomGradient(Numbers& numbers, long count)
      : a(numbers.Fraction(8, 2)), b(numbers.Fraction(8, 1)), c(numbers.Fraction(8, 1)) {
    for (long i = 0; i < count; ++i) {
      g.push_back(numbers.Fraction(64, 2));
      z.push_back(numbers.Fraction(64, 2));
    }
  }
  double dz(long i) const { return static_cast<double>(a) * g[i] + static_cast<double>(b) * z[i] + c; }
  OutputGradient<float> In(Memory& memory) const { return {memory.InputPlane(g), memory.InputPlane(z), a, b, c}; }
};

// The gradient plane of an input: NaN to be written, or values to be added to.
struct RandomSum {
  bool accumulate;
  std::vector<float> before;

  RandomSum(Numbers& numbers, long count) : accumulate(numbers.Coin()), before(count, 0.0f) {
    if (accumulate)
      for (float& v : before) v = numbers.Fraction(64, 2);
  }
  InputGradient<float> In(Memory& memory) const {
    float* plane = memory.OutputPlane(static_cast<long>(before.size()));
    if (accumulate) std::copy(before.begin(), before.end(), plane);
    return {plane, accumulate};
  }
};

void TestPointwise(const KernelTable& kernels);
void TestBf16Products(const KernelTable& kernels);
void TestDepthwise(const KernelTable& kernels);
void TestStem(const KernelTable& kernels);
void TestHead(const KernelTable& kernels);
void TestUpdate(const KernelTable& kernels);
void TestDecode();
void TestProgram();
void TestThreadPool();
void TestThreadPoolErrors();
void TestJobThread();
void TestExecutor(const KernelTable& kernels);
void TestProfile(const KernelTable& kernels);
void TestGradientSink(const KernelTable& kernels);

}  // namespace riffle::test

// 1x1 convolution of planes in bf16, to the bit: dot products, and products unpacked to f32, beside a plain twin that rounds and
// flushes as VDPBF16PS and VCVTNEPS2BF16 are documented to. Arm's BFMLALT and BFMLALB are held to the same.
#include <bit>
#include <cfloat>
#include <cmath>
#include <cstring>

#include "../runtime/isa.h"
#include "check.h"

namespace riffle::test {
namespace {

float Flushed(float x) { return std::fabs(x) < FLT_MIN ? std::copysign(0.0f, x) : x; }

float Rounded(float x) {
  const uint32_t u = std::bit_cast<uint32_t>(Flushed(x));
  if (std::isnan(x)) return std::bit_cast<float>((u | 0x400000u) & 0xffff0000u);
  return std::bit_cast<float>((u + 0x7fffu + ((u >> 16) & 1u)) & 0xffff0000u);
}

uint16_t BitsOf(float x) { return static_cast<uint16_t>(std::bit_cast<uint32_t>(x) >> 16); }
float FloatOf(Bf16 x) { return std::bit_cast<float>(static_cast<uint32_t>(x.bits) << 16); }

float Product(float a, float b, float sum) { return Flushed(std::fma(a, b, sum)); }

// Numbers of ordinary size, or of all: where sums underflow and products overflow.
float Draw(Numbers& numbers, bool wild) {
  const float x = Rounded(numbers.Uniform());
  return wild ? Rounded(std::ldexp(x, static_cast<int>(numbers.Fraction(1, 110)))) : x;
}

struct Shape {
  long columns;
  int inputs, outputs;
  long block_columns;
};

struct Planes {
  std::vector<std::vector<float>> values;  // bf16 each

  Planes(Numbers& numbers, int planes, long count, bool wild) : values(planes) {
    for (std::vector<float>& plane : values)
      for (long i = 0; i < count; ++i) plane.push_back(Draw(numbers, wild));
  }
  static Bf16* In(Memory& memory, const std::vector<float>& from) {
    Bf16* plane = Empty(memory, static_cast<long>(from.size()));
    for (size_t i = 0; i < from.size(); ++i) plane[i].bits = BitsOf(from[i]);
    return plane;
  }
  static Bf16* Empty(Memory& memory, long count) { return memory.Output<Bf16>((count + 63) / 64 * 64 + 32); }
};

// Everything that one way leaves.
struct Outcome {
  std::vector<std::vector<float>> z, gx;
  std::vector<float> sums, gradient_sums, dw;
};

struct Case {
  Shape shape;
  Planes z_in, z_out, g_out, g_in;
  std::vector<float> weights;  // [outputs, inputs]
  std::vector<char> relu, accumulate;

  Case(const Shape& s, Numbers& numbers, bool wild)
      : shape(s),
        z_in(numbers, s.inputs, s.columns, wild),
        z_out(numbers, s.outputs, s.columns, wild),
        g_out(numbers, s.outputs, s.columns, wild),
        g_in(numbers, s.inputs, s.columns, wild) {
    // A pair whose first is zero is a denormal to arithmetic that takes it for a float.
    for (int i = 0; i < s.inputs * s.outputs; ++i) weights.push_back(wild && i % 5 == 0 ? 0.0f : Draw(numbers, wild) * 1.01f);
    for (int i = 0; i < s.inputs; ++i) {
      relu.push_back(numbers.Coin());
      accumulate.push_back(numbers.Coin());
    }
  }

  Outcome Run(const KernelTable& k, Memory& memory) const {
    const auto& [columns, inputs, outputs, block_columns] = shape;
    const long blocks = (columns + block_columns - 1) / block_columns;
    std::vector<InputPlane<Bf16>> x;
    std::vector<Bf16*> z;
    std::vector<OutputGradient<Bf16>> dz;
    std::vector<InputGradient<Bf16>> gx;
    for (int i = 0; i < inputs; ++i) {
      x.push_back({Planes::In(memory, z_in.values[i]), 1.0f, 0.0f, relu[i] != 0});
      gx.push_back({Planes::In(memory, g_in.values[i]), accumulate[i] != 0});
    }
    for (int o = 0; o < outputs; ++o) {
      z.push_back(Planes::Empty(memory, columns));
      dz.push_back({Planes::In(memory, g_out.values[o]), Planes::In(memory, z_out.values[o]), 1.0f, 0.0f, 0.0f});
    }
    const float* matrix = memory.Input(weights);
    float* packed = memory.Output(k.bf16.packed_size(outputs, inputs));
    float* transposed = memory.Output(k.bf16.packed_size(inputs, outputs));
    k.bf16.pack_weights(matrix, outputs, inputs, inputs, 1, packed);
    k.bf16.pack_weights(matrix, inputs, outputs, 1, inputs, transposed);
    float* sums = memory.Output(blocks * 2 * outputs);
    float* gradient_sums = memory.Output(blocks * 2 * inputs);
    const size_t dw_size = k.dw_rows(outputs) * k.dw_columns(inputs);
    float* dw = memory.Output(dw_size);
    const PointwiseForward<Bf16> forward = {.columns = columns, .inputs = inputs, .outputs = outputs, .x = x.data(), .z = z.data(),
                                            .weights = packed, .sums = sums, .block_columns = block_columns, .runs = 1, .row_parts = 1};
    float* scratch = memory.Scratch(k.bf16.pointwise_forward_scratch(inputs, outputs, block_columns));
    k.bf16.pointwise_forward(forward, 0, scratch);
    const PointwiseBackward<Bf16> backward = {.columns = columns, .inputs = inputs, .outputs = outputs, .x = x.data(), .dz = dz.data(),
                                              .gx = gx.data(), .weights = transposed, .sums = gradient_sums, .dw = dw,
                                              .block_columns = block_columns, .groups = 1};
    scratch = memory.Scratch(k.bf16.pointwise_backward_scratch(inputs, outputs, block_columns));
    k.bf16.pointwise_backward(backward, 0, scratch);

    Outcome out;
    const auto read = [&](const Bf16* plane) {
      std::vector<float> values;
      for (long j = 0; j < columns; ++j) values.push_back(FloatOf(plane[j]));
      return values;
    };
    for (const Bf16* plane : z) out.z.push_back(read(plane));
    for (const InputGradient<Bf16>& g : gx) out.gx.push_back(read(g.g));
    out.sums.assign(sums, sums + blocks * 2 * outputs);
    out.gradient_sums.assign(gradient_sums, gradient_sums + blocks * 2 * inputs);
    out.dw.assign(dw, dw + dw_size);
    return out;
  }

  float Y(int i, long j) const {
    const float z = z_in.values[i][j];
    return relu[i] && z < 0 ? 0.0f : z;
  }
};

void Same(Test& test, const char* what, const std::vector<float>& actual, const std::vector<float>& expected) {
  for (size_t i = 0; i < expected.size(); ++i) {
    // Any NaN is as good as any other.
    const bool same = std::isnan(expected[i]) ? std::isnan(actual[i]) : actual[i] == expected[i];
    test.Near(what, static_cast<long>(i), same ? 0 : 1, 0, 0);
  }
}

}  // namespace

void TestBf16Products(const KernelTable& table) {
  // Where the processor cannot multiply and add at once, a product that underflows is lost before it is added.
  const bool fuses = std::strcmp(table.name, "sse2") != 0;
  std::vector<const KernelTable*> ways = {&table};
  if (const KernelTable* dot = WithDot(table)) ways.push_back(dot);
  Test test(table.name, ways.size() > 1 ? "bf16 products, unpacked and by dot" : "bf16 products, unpacked");
  const long tile = std::max(16, 2 * table.lanes);
  std::vector<Shape> shapes;
  for (long columns : {1, 15, 31, 32, 33, 49, 100})
    for (int inputs : {1, 2, 5, 12, 25})
      for (int outputs : {1, 3, 6, 13, 24}) shapes.push_back({columns, inputs, outputs, columns % 2 ? 3 * tile : 96L});
  for (const Shape& large : {Shape{600, 24, 40, 256}, Shape{257, 58, 58, 256}, Shape{300, 141, 29, 160}}) shapes.push_back(large);
  uint32_t seed = 1;
  for (const Shape& s : Thinned(shapes))
    for (const bool wild : {false, true}) {
      if (wild && !fuses) continue;
      test.Case("%d inputs, %d outputs, %ld columns in blocks of %ld%s", s.inputs, s.outputs, s.columns, s.block_columns,
                wild ? ", of all sizes" : "");
      Numbers numbers(seed++);
      const Case c(s, numbers, wild);
      std::vector<Outcome> outcomes;
      for (const KernelTable* way : ways) {
        Memory memory;
        outcomes.push_back(c.Run(*way, memory));
        memory.Verify(test);
      }
      const Outcome& first = outcomes[0];
      for (int o = 0; o < s.outputs; ++o) {
        std::vector<float> expected;
        for (long j = 0; j < s.columns; ++j) {
          float sum = 0;
          for (int i = 0; i < s.inputs; ++i) sum = Product(Rounded(c.weights[o * s.inputs + i]), c.Y(i, j), sum);
          expected.push_back(Rounded(sum));
        }
        Same(test, "z", first.z[o], expected);
      }
      for (int i = 0; i < s.inputs; ++i) {
        std::vector<float> expected;
        for (long j = 0; j < s.columns; ++j) {
          float sum = 0;
          for (int o = 0; o < s.outputs; ++o) sum = Product(Rounded(c.weights[o * s.inputs + i]), c.g_out.values[o][j], sum);
          if (c.relu[i] && !(c.Y(i, j) > 0)) sum = 0;
          if (c.accumulate[i]) sum = Flushed(sum + c.g_in.values[i][j]);
          expected.push_back(Rounded(sum));
        }
        Same(test, "gx", first.gx[i], expected);
      }
      if (!wild)
        for (int o = 0; o < s.outputs; ++o)
          for (int i = 0; i < s.inputs; ++i) {
            BoundedSum expected;
            for (long j = 0; j < s.columns; ++j) expected.Add(static_cast<double>(c.g_out.values[o][j]) * c.Y(i, j));
            test.Near("dw", o * s.inputs + i, first.dw[o * table.dw_columns(s.inputs) + i], expected);
          }
      for (size_t w = 1; w < outcomes.size(); ++w) {
        for (int o = 0; o < s.outputs; ++o) Same(test, "z by dot", outcomes[w].z[o], first.z[o]);
        for (int i = 0; i < s.inputs; ++i) Same(test, "gx by dot", outcomes[w].gx[i], first.gx[i]);
        Same(test, "sums by dot", outcomes[w].sums, first.sums);
        Same(test, "sums of gradients by dot", outcomes[w].gradient_sums, first.gradient_sums);
        Same(test, "dw by dot", outcomes[w].dw, first.dw);
      }
    }
}

}  // namespace riffle::test

// 1x1 convolution against its definition in f64: shapes around the vector width, the register tile and the block.
#include "check.h"

namespace riffle::test {
namespace {

struct Shape {
  long columns;
  int inputs, outputs;
  long block_columns;

  long blocks() const { return (columns + block_columns - 1) / block_columns; }
  // First column of a block; the last block may be short.
  long begin(long block) const { return std::min(block * block_columns, columns); }
};

// Every combination of small sizes, then sizes at which a block is made of several groups and tiles.
std::vector<Shape> Shapes(const KernelTable& k) {
  const long tile = std::max(16, 2 * k.lanes);  // what a block's width must be a multiple of
  std::vector<Shape> shapes;
  for (long columns : {1, 2, 15, 16, 17, 31, 32, 33, 49, 64, 65, 100})
    for (int inputs : {1, 2, 4, 5, 7, 13, 24})
      for (int outputs : {1, 3, 5, 6, 7, 12, 13, 25})
        for (long block : {tile, 3 * tile, 96L}) shapes.push_back({columns, inputs, outputs, block});
  for (const Shape& large : {Shape{600, 24, 40, 256}, Shape{257, 58, 58, 256}, Shape{300, 140, 29, 160},
                             Shape{147, 29, 140, 160}, Shape{1000, 3, 2, 256}, Shape{255, 64, 48, 128}})
    shapes.push_back(large);
  // The last panel at inference, which is made of other tiles: one to four columns, a vector, a vector and one, more; of four row
  // tiles together and of those left over.
  for (long columns : {1, 2, 3, 4, 5, 8, 9, 16, 17, 18, 33, 36, 49, 196})
    for (int outputs : {12, 23, 48, 61, 100, 116})
      for (int no_sums = 0; no_sums < 4; ++no_sums) shapes.push_back({columns, 9, outputs, 256});
  return shapes;
}

// [outputs, inputs], and packed for the kernel.
struct Matrix {
  std::vector<float> values;
  float* packed;
};

Matrix RandomMatrix(const KernelTable& k, const Shape& s, bool transposed, Numbers& numbers, Memory& memory) {
  Matrix m{{}, nullptr};
  for (int i = 0; i < s.outputs * s.inputs; ++i) m.values.push_back(numbers.Uniform());
  const float* matrix = memory.Input(m.values);
  if (transposed) {
    m.packed = memory.Output(k.f32.packed_size(s.inputs, s.outputs));
    k.f32.pack_weights(matrix, s.inputs, s.outputs, 1, s.inputs, m.packed);
  } else {
    m.packed = memory.Output(k.f32.packed_size(s.outputs, s.inputs));
    k.f32.pack_weights(matrix, s.outputs, s.inputs, s.inputs, 1, m.packed);
  }
  return m;
}

std::vector<RandomPlane> RandomPlanes(Numbers& numbers, int planes, long count) {
  std::vector<RandomPlane> all;
  for (int i = 0; i < planes; ++i) all.emplace_back(numbers, count);
  return all;
}

void TestForward(const KernelTable& k) {
  Test test(k.name, "pointwise_forward");
  uint32_t seed = 1;
  for (const Shape& s : Thinned(Shapes(k))) {
    const bool with_sums = seed % 4 != 0;
    const int row_parts = static_cast<int>(std::vector<int>{1, 2, 4}[seed % 3]);
    const long runs = seed % 5 ? s.blocks() : std::min(s.blocks(), 2L);
    test.Case("%d inputs, %d outputs, %ld columns in blocks of %ld, %d row parts%s", s.inputs, s.outputs, s.columns,
              s.block_columns, row_parts, with_sums ? "" : ", no sums");
    Numbers numbers(seed++);
    Memory memory;
    const std::vector<RandomPlane> x = RandomPlanes(numbers, s.inputs, s.columns);
    const Matrix w = RandomMatrix(k, s, false, numbers, memory);
    std::vector<InputPlane<float>> inputs;
    for (const RandomPlane& plane : x) inputs.push_back(plane.In(memory));
    std::vector<float*> z;
    for (int o = 0; o < s.outputs; ++o) z.push_back(memory.OutputPlane(s.columns));
    float* sums = with_sums ? memory.Output(s.blocks() * 2 * s.outputs) : nullptr;
    float* scratch = memory.Scratch(k.f32.pointwise_forward_scratch(s.inputs, s.outputs, s.block_columns));
    const PointwiseForward<float> work = {.columns = s.columns,
                                   .inputs = s.inputs,
                                   .outputs = s.outputs,
                                   .x = inputs.data(),
                                   .z = z.data(),
                                   .weights = w.packed,
                                   .sums = sums,
                                   .block_columns = s.block_columns,
                                   .runs = runs,
                                   .row_parts = row_parts};
    // Tasks in any order: here the last first.
    for (long task = runs * row_parts; task-- > 0;) k.f32.pointwise_forward(work, task, scratch);

    for (int o = 0; o < s.outputs; ++o)
      for (long block = 0; block < s.blocks(); ++block) {
        BoundedSum sum, squares;
        for (long j = s.begin(block); j < s.begin(block + 1); ++j) {
          BoundedSum expected;
          for (int i = 0; i < s.inputs; ++i) expected.Add(w.values[o * s.inputs + i] * x[i].y(j));
          test.Near("z", o * s.columns + j, z[o][j], expected);
          sum.Add(expected);
          squares.Add(expected * expected);
        }
        if (!with_sums) continue;
        const float* of_block = sums + block * 2 * s.outputs;
        test.Near("sum of z", o, of_block[o], sum);
        test.Near("sum of z*z", o, of_block[s.outputs + o], squares);
      }
    memory.Verify(test);
  }
}

void TestBackward(const KernelTable& k) {
  Test test(k.name, "pointwise_backward");
  uint32_t seed = 1;
  for (const Shape& s : Thinned(Shapes(k))) {
    const int groups = static_cast<int>(std::min(s.blocks(), std::vector<long>{1, 2, 3, 16}[seed % 4]));
    test.Case("%d inputs, %d outputs, %ld columns in blocks of %ld, %d groups", s.inputs, s.outputs, s.columns,
              s.block_columns, groups);
    Numbers numbers(seed++);
    Memory memory;
    const std::vector<RandomPlane> x = RandomPlanes(numbers, s.inputs, s.columns);
    const Matrix w = RandomMatrix(k, s, true, numbers, memory);
    std::vector<RandomGradient> dz;
    std::vector<RandomSum> before;
    std::vector<InputPlane<float>> inputs;
    std::vector<OutputGradient<float>> output_gradients;
    std::vector<InputGradient<float>> input_gradients;
    for (int o = 0; o < s.outputs; ++o) output_gradients.push_back(dz.emplace_back(numbers, s.columns).In(memory));
    for (int i = 0; i < s.inputs; ++i) {
      inputs.push_back(x[i].In(memory));
      input_gradients.push_back(before.emplace_back(numbers, s.columns).In(memory));
    }
    const long dw_rows = k.dw_rows(s.outputs), dw_columns = k.dw_columns(s.inputs);
    float* sums = memory.Output(s.blocks() * 2 * s.inputs);
    float* dw = memory.Output(groups * dw_rows * dw_columns);
    float* scratch = memory.Scratch(k.f32.pointwise_backward_scratch(s.inputs, s.outputs, s.block_columns));
    const PointwiseBackward<float> work = {.columns = s.columns,
                                    .inputs = s.inputs,
                                    .outputs = s.outputs,
                                    .x = inputs.data(),
                                    .dz = output_gradients.data(),
                                    .gx = input_gradients.data(),
                                    .weights = w.packed,
                                    .sums = sums,
                                    .dw = dw,
                                    .block_columns = s.block_columns,
                                    .groups = groups};
    for (long task = groups; task-- > 0;) k.f32.pointwise_backward(work, task, scratch);

    for (int i = 0; i < s.inputs; ++i)
      for (long block = 0; block < s.blocks(); ++block) {
        BoundedSum sum, dot;
        for (long j = s.begin(block); j < s.begin(block + 1); ++j) {
          BoundedSum expected;
          for (int o = 0; x[i].open(j) && o < s.outputs; ++o) expected.Add(w.values[o * s.inputs + i] * dz[o].dz(j));
          expected.Add(before[i].before[j]);
          test.Near("gx", i * s.columns + j, input_gradients[i].g[j], expected);
          sum.Add(expected);
          dot.Add(expected * x[i].z[j]);
        }
        const float* of_block = sums + block * 2 * s.inputs;
        test.Near("sum of gx", i, of_block[i], sum);
        test.Near("sum of gx*z", i, of_block[s.inputs + i], dot);
      }
    for (long group = 0; group < groups; ++group)
      for (int o = 0; o < s.outputs; ++o)
        for (int i = 0; i < s.inputs; ++i) {
          BoundedSum expected;
          for (long j = s.begin(group * s.blocks() / groups); j < s.begin((group + 1) * s.blocks() / groups); ++j)
            expected.Add(dz[o].dz(j) * x[i].y(j));
          test.Near("dw", o * s.inputs + i, dw[(group * dw_rows + o) * dw_columns + i], expected);
        }
    memory.Verify(test);
  }
}

void TestPack(const KernelTable& k) {
  Test test(k.name, "pack_weights");
  for (long rows : {1, 2, 5, 6, 7, 11, 12, 13, 24, 25})
    for (long columns : {1, 3, 8})
      for (bool transposed : {false, true}) {
        test.Case("%ld rows, %ld columns%s", rows, columns, transposed ? ", transposed" : "");
        Numbers numbers(static_cast<uint32_t>(rows * 31 + columns));
        Memory memory;
        std::vector<float> matrix;
        for (long i = 0; i < rows * columns; ++i) matrix.push_back(numbers.Uniform());
        const long row_stride = transposed ? 1 : columns, column_stride = transposed ? rows : 1;
        const size_t size = k.f32.packed_size(rows, columns);
        float* packed = memory.Output(size);
        k.f32.pack_weights(memory.Input(matrix), rows, columns, row_stride, column_stride, packed);
        for (size_t at = 0; at < size; ++at) {
          const long row = static_cast<long>(at) / (columns * k.tile_rows) * k.tile_rows + static_cast<long>(at) % k.tile_rows;
          const long column = static_cast<long>(at) / k.tile_rows % columns;
          const double expected = row < rows ? matrix[row * row_stride + column * column_stride] : 0.0;
          test.Near("packed", static_cast<long>(at), packed[at], expected, 0);
        }
        memory.Verify(test);
      }
}

}  // namespace

void TestPointwise(const KernelTable& kernels) {
  TestPack(kernels);
  TestForward(kernels);
  TestBackward(kernels);
}

}  // namespace riffle::test

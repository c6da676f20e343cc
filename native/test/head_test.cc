// Global average pooling and the classifier's matrix products against their definitions in f64.
#include "check.h"

namespace riffle::test {
namespace {

void TestAverage(const KernelTable& k) {
  Test forward(k.name, "global_average"), backward(k.name, "global_average_backward");
  constexpr int kPlanes = 5;
  constexpr long kStride = kPlanes + 3;  // features between two images; three belong to nobody
  uint32_t seed = 1;
  for (long pixels : {1, 2, 4, 7, 8, 9, 15, 16, 17, 31, 33, 49, 100})
    for (int images : {1, 2, 5}) {
      forward.Case("%d images, %ld pixels", images, pixels);
      backward.Case("%d images, %ld pixels", images, pixels);
      Numbers numbers(seed++);
      Memory memory;
      std::vector<RandomPlane> x;
      std::vector<InputPlane<float>> inputs;
      std::vector<float*> g;
      for (int p = 0; p < kPlanes; ++p) {
        inputs.push_back(x.emplace_back(numbers, images * pixels).In(memory));
        g.push_back(memory.OutputPlane(images * pixels));
      }
      float* features = memory.Output(images * kStride);
      std::vector<float> gradient;
      for (long i = 0; i < images * kStride; ++i) gradient.push_back(numbers.Uniform());
      float* sums = memory.Output(kPlanes * images * 2);
      const GlobalAverage<float> average = {
          .images = images, .pixels = pixels, .x = inputs.data(), .features = features, .stride = kStride};
      const GlobalAverageBackward<float> spread = {.images = images,
                                            .pixels = pixels,
                                            .x = inputs.data(),
                                            .g = g.data(),
                                            .gradient = memory.Input(gradient),
                                            .stride = kStride,
                                            .sums = sums};
      for (long plane = kPlanes; plane-- > 0;) {
        k.f32.global_average(average, plane);
        k.f32.global_average_backward(spread, plane);
      }
      for (int n = 0; n < images; ++n) {
        for (long unused = kPlanes; unused < kStride; ++unused)
          forward.True(std::isnan(features[n * kStride + unused]), "a feature of no plane was written");
        for (int p = 0; p < kPlanes; ++p) {
          const double share = gradient[n * kStride + p] / static_cast<double>(pixels);
          BoundedSum mean, sum, dot;
          for (long i = 0; i < pixels; ++i) {
            const long at = n * pixels + i;
            mean.Add(x[p].y(at) / static_cast<double>(pixels));
            BoundedSum expected;
            expected.Add(x[p].open(at) ? share : 0);
            backward.Near("g", at, g[p][at], expected);
            sum.Add(expected);
            dot.Add(expected * x[p].z[at]);
          }
          forward.Near("feature", n * kStride + p, features[n * kStride + p], mean);
          const float* of_image = sums + (p * images + n) * 2;
          backward.Near("sum of g", p, of_image[0], sum);
          backward.Near("sum of g*z", p, of_image[1], dot);
        }
      }
      memory.Verify(forward);
      memory.Verify(backward);
    }
}

std::vector<float> RandomValues(Numbers& numbers, long count) {
  std::vector<float> values;
  for (long i = 0; i < count; ++i) values.push_back(numbers.Uniform());
  return values;
}

// c[i,j] = sum over k of a(i,k) * b(k,j), and untouched elements between the rows of c.
template <class A, class B>
void CheckProduct(Test& test, long rows, long columns, long depth, const A& a, const B& b, const float* c, long ldc) {
  for (long i = 0; i < rows; ++i) {
    for (long j = 0; j < columns; ++j) {
      BoundedSum expected;
      for (long k = 0; k < depth; ++k) expected.Add(static_cast<double>(a(i, k)) * b(k, j));
      test.Near("c", i * ldc + j, c[i * ldc + j], expected);
    }
    for (long j = columns; j < ldc && i + 1 < rows; ++j) test.True(std::isnan(c[i * ldc + j]), "wrote between two rows");
  }
}

void TestProductTransposed(const KernelTable& k) {
  Test test(k.name, "matrix_product_transposed");
  uint32_t seed = 1;
  for (long rows : {1, 2, 3, 5, 6, 7, 12, 13})
    for (long columns : {1, 3, 4, 5, 10})
      for (long depth : {1, 7, 8, 16, 17, 32, 100})
        for (long slack : {0, 3}) {
          test.Case("%ld rows, %ld columns, depth %ld, %ld more between rows", rows, columns, depth, slack);
          Numbers numbers(seed++);
          Memory memory;
          const long ld = depth + slack, ldc = columns + slack;
          // The last rows end where their values end.
          const std::vector<float> a = RandomValues(numbers, (rows - 1) * ld + depth);
          const std::vector<float> b = RandomValues(numbers, (columns - 1) * ld + depth);
          MatrixProductTransposed work = {.rows = rows,
                                          .columns = columns,
                                          .depth = depth,
                                          .a = memory.Input(a),
                                          .lda = ld,
                                          .b = memory.Input(b),
                                          .ldb = ld,
                                          .c = memory.Output((rows - 1) * ldc + columns),
                                          .ldc = ldc};
          const float* whole = work.c;
          k.matrix_product_transposed(work, 0, rows);
          CheckProduct(
              test, rows, columns, depth, [&](long i, long d) { return a[i * ld + d]; },
              [&](long d, long j) { return b[j * ld + d]; }, whole, ldc);
          // The same bits in whatever pieces the rows are done.
          for (long piece : {1, 2, 5, 6}) {
            work.c = memory.Output((rows - 1) * ldc + columns);
            for (long begin = 0; begin < rows; begin += piece)
              k.matrix_product_transposed(work, begin, std::min(begin + piece, rows));
            const size_t bytes = ((rows - 1) * ldc + columns) * sizeof(float);
            test.True(std::memcmp(whole, work.c, bytes) == 0, "pieces of rows give other bits");
          }
          memory.Verify(test);
        }
}

void TestProduct(const KernelTable& k) {
  Test test(k.name, "matrix_product");
  uint32_t seed = 1;
  for (long rows : {1, 5, 6, 7, 12, 13, 25})
    for (long columns : {1, 7, 8, 15, 16, 31, 32, 33, 64, 65, 100})
      for (long depth : {1, 2, 10, 33})
        for (long slack : {0, 5}) {
          test.Case("%ld rows, %ld columns, depth %ld, %ld more between rows", rows, columns, depth, slack);
          Numbers numbers(seed++);
          Memory memory;
          const long ld = columns + slack;
          const std::vector<float> a = RandomValues(numbers, rows * depth);
          const std::vector<float> b = RandomValues(numbers, (depth - 1) * ld + columns);
          float* packed = memory.Output(k.f32.packed_size(rows, depth));
          k.f32.pack_weights(memory.Input(a), rows, depth, depth, 1, packed);
          float* c = memory.Output((rows - 1) * ld + columns);
          const MatrixProduct work = {.rows = rows,
                                      .columns = columns,
                                      .depth = depth,
                                      .a = packed,
                                      .b = memory.Input(b),
                                      .ldb = ld,
                                      .c = c,
                                      .ldc = ld};
          for (long tile = (rows + k.tile_rows - 1) / k.tile_rows; tile-- > 0;) k.matrix_product(work, tile, tile + 1);
          CheckProduct(
              test, rows, columns, depth, [&](long i, long d) { return a[i * depth + d]; },
              [&](long d, long j) { return b[d * ld + j]; }, c, ld);
          memory.Verify(test);
        }
}

}  // namespace

void TestHead(const KernelTable& kernels) {
  TestAverage(kernels);
  TestProductTransposed(kernels);
  TestProduct(kernels);
}

}  // namespace riffle::test

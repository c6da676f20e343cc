// The head's pieces: global average pooling and the small matrix products of the classifier.
#include "kernels.h"
#include "tile.h"

namespace riffle::RIFFLE_ISA {

template <class T>
void GlobalAverageTask(const GlobalAverage<T>& p, long plane) {
  [[maybe_unused]] const Arithmetic<T> arithmetic;
  const InputPlane<T>& x = p.x[plane];
  const Vec scale = Set(x.scale), shift = Set(x.shift);
  for (int n = 0; n < p.images; ++n) {
    const T* z = x.z + n * p.pixels;
    Vec sum = Vec{};
    for (long i = 0; i < p.pixels; i += kLanes) {
      Vec y = Load(z + i) * scale + shift;
      if (x.relu) y = Relu(y);
      sum += p.pixels - i >= kLanes ? y : KeepFirst(y, p.pixels - i);
    }
    p.features[n * p.stride + plane] = Sum(sum) / static_cast<float>(p.pixels);
  }
}

template <class T>
void GlobalAverageBackwardTask(const GlobalAverageBackward<T>& p, long plane) {
  [[maybe_unused]] const Arithmetic<T> arithmetic;
  const InputPlane<T>& x = p.x[plane];
  const Vec scale = Set(x.scale), shift = Set(x.shift);
  for (int n = 0; n < p.images; ++n) {
    const T* z = x.z + n * p.pixels;
    T* g = p.g[plane] + n * p.pixels;
    const Vec share = Set(p.gradient[n * p.stride + plane] / static_cast<float>(p.pixels));
    Vec sum = Vec{}, dot = Vec{};
    for (long i = 0; i < p.pixels; i += kLanes) {
      const Vec zi = KeepFirst(Load(z + i), p.pixels - i);
      const Vec y = zi * scale + shift;
      Vec v = x.relu ? (y > Vec{} ? share : Vec{}) : share;
      v = KeepFirst(v, p.pixels - i);
      Store(g + i, v);  // what is written behind is the next image's, written next, or the plane's end
      sum += v;
      dot += v * zi;
    }
    p.sums[(plane * p.images + n) * 2] = Sum(sum);
    p.sums[(plane * p.images + n) * 2 + 1] = Sum(dot);
  }
}

void MatrixProductTransposedRows(const MatrixProductTransposed& p, long begin, long end) {
  const long depth = p.depth / kLanes * kLanes;
  const auto dot = [&](long i, long j) {
    const float *a = p.a + i * p.lda, *b = p.b + j * p.ldb;
    Vec sum = Vec{};
    for (long k = 0; k < depth; k += kLanes) sum += Load(a + k) * Load(b + k);
    float total = Sum(sum);
    for (long k = depth; k < p.depth; ++k) total += a[k] * b[k];
    p.c[i * p.ldc + j] = total;
  };
  // Four columns at once give four chains of multiply-adds; the same sums as `dot`. The four after them are asked for meanwhile:
  // a row is about a page, at whose end the hardware stops looking ahead.
  const auto dot4 = [&](long i, long j) {
    const float *a = p.a + i * p.lda, *b = p.b + j * p.ldb;
    const float* next = j + 8 <= p.columns ? b + 4 * p.ldb : b;
    Vec s0 = Vec{}, s1 = Vec{}, s2 = Vec{}, s3 = Vec{};
    for (long k = 0; k < depth; k += kLanes) {
      const Vec ak = Load(a + k);
      for (int q = 0; q < 4; ++q) __builtin_prefetch(next + q * p.ldb + k);
      s0 += ak * Load(b + k);
      s1 += ak * Load(b + p.ldb + k);
      s2 += ak * Load(b + 2 * p.ldb + k);
      s3 += ak * Load(b + 3 * p.ldb + k);
    }
    float* c = p.c + i * p.ldc + j;
    const Vec sums[4] = {s0, s1, s2, s3};
    for (int q = 0; q < 4; ++q) {
      float total = Sum(sums[q]);
      for (long k = depth; k < p.depth; ++k) total += a[k] * b[q * p.ldb + k];
      c[q] = total;
    }
  };
  // Which tile a row falls into must not depend on [begin, end): a tile and a single dot round differently.
  for (long i = begin; i < end; ++i) {
    const long tile = i / kDotRows * kDotRows;
    const bool whole = tile + kDotRows <= p.rows;
    if (whole && i != tile && tile >= begin) continue;  // done with its tile
    const long j_end = whole && p.depth == depth ? p.columns / kDotColumns * kDotColumns : 0;
    for (long j = 0; j < j_end; j += kDotColumns) {
      Vec4 c[kDotRows];
      DotTile(depth, p.a + tile * p.lda, p.lda, p.b + j * p.ldb, p.ldb, c);
      for (int r = 0; r < kDotRows; ++r)
        if (tile + r >= begin && tile + r < end)
          for (int q = 0; q < kDotColumns; ++q) p.c[(tile + r) * p.ldc + j + q] = c[r][q];
    }
    const long last = whole ? Smaller(tile + kDotRows, end) : i + 1;
    for (long r = i; r < last; ++r) {
      long j = j_end;
      for (; j + 4 <= p.columns; j += 4) dot4(r, j);
      for (; j < p.columns; ++j) dot(r, j);
    }
  }
}

void MatrixProductTiles(const MatrixProduct& p, long tile_begin, long tile_end) {
  const long whole = p.columns / kPanel * kPanel;
  for (long tile = tile_begin; tile < tile_end; ++tile) {
    const long row = tile * kRows, rows = Smaller(kRows, p.rows - row);
    const float* a = p.a + row * p.depth;
    for (long j = 0; j < whole; j += kPanel) {
      Vec c[kRows][kVecs];
      RowTile(p.depth, a, p.b + j, p.ldb, c);
#pragma GCC unroll 16
      for (int r = 0; r < kRows; ++r) {
        if (r >= rows) break;
        Store(p.c + (row + r) * p.ldc + j, c[r][0]);
        Store(p.c + (row + r) * p.ldc + j + kLanes, c[r][1]);
      }
    }
    for (long r = 0; r < rows; ++r)
      for (long j = whole; j < p.columns; ++j) {
        float sum = 0.0f;
        for (long k = 0; k < p.depth; ++k) sum += a[k * kRows + r] * p.b[k * p.ldb + j];
        p.c[(row + r) * p.ldc + j] = sum;
      }
  }
}

}  // namespace riffle::RIFFLE_ISA

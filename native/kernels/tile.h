// The two register tiles everything else is made of.
//
// RowTile: kRows rows of a packed matrix times kVecs vectors of columns, accumulated over the depth in
// registers: kRows * kVecs accumulators. Per step of the depth kVecs loads and kRows broadcasts feed
// kRows * kVecs multiply-adds: 8 loads for 12 with 16 registers (6 x 2), 14 for 24 with 32 (12 x 2).
// In WebAssembly it is 4 x 2: V8 has 15 registers to give on x86-64, 6 x 2 with its loads and a product needs 16, and a step of
// training took a quarter longer.
//
// DotTile: kDotRows rows against four rows along contiguous memory, lanes summed at the end: 9 loads for 12
// multiply-adds (3 x 4, one column from memory), 10 for 24 (6 x 4).
#pragma once

#include "../simd/simd.h"

namespace riffle::RIFFLE_ISA {

#if RIFFLE_LANES == 16
constexpr int kRows = 12;
constexpr int kDotRows = 6;
#elif defined(__wasm__)
constexpr int kRows = 4;
constexpr int kDotRows = 2;
#else
constexpr int kRows = 6;
constexpr int kDotRows = 3;
#endif
constexpr int kVecs = 2;
constexpr int kDotColumns = 4;
constexpr int kPanel = kVecs * kLanes;  // columns of a row tile
// So many columns behind the last whole vector are made one by one, where a vector holds a tile's rows.
constexpr int kFewColumns = kLanes >= kRows ? 4 : 0;

// What tiles multiply: floats, or pairs of bf16, two steps of the depth in a lane.
template <bool kPairs>
RIFFLE_INLINE Vec Spread(const float* a) {
#if defined(RIFFLE_PAIRS)
  if constexpr (kPairs) return SpreadPair(a);
#endif
  return Set(*a);
}

template <bool kPairs>
RIFFLE_INLINE void MultiplyAdd(Vec& sum, Vec a, Vec b) {
#if defined(RIFFLE_PAIRS)
  if constexpr (kPairs) {
    sum = Dot(sum, a, b);
    return;
  }
#endif
  sum += a * b;
}

// c[r][v] = sum over k of a[k*kRows + r] * b[k*ldb + v*kLanes ..], of the first kCount rows.
template <bool kPairs = false, int kCount = kRows>
RIFFLE_INLINE void RowTile(long depth, const float* __restrict a, const float* __restrict b, long ldb,
                           Vec (&c)[kCount][kVecs]) {
#pragma GCC unroll 16
  for (int r = 0; r < kCount; ++r)
#pragma GCC unroll 4
    for (int v = 0; v < kVecs; ++v) c[r][v] = Vec{};
  for (long k = 0; k < depth; ++k) {
    const Vec b0 = Load(b), b1 = Load(b + kLanes);
#pragma GCC unroll 16
    for (int r = 0; r < kCount; ++r) {
      const Vec ar = Spread<kPairs>(a + r);
      MultiplyAdd<kPairs>(c[r][0], ar, b0);
      MultiplyAdd<kPairs>(c[r][1], ar, b1);
    }
    a += kRows;
    b += ldb;
  }
}

// Two row tiles of the packed matrix, one above the other, times one vector of columns, for the end of a row where the second
// vector of RowTile would be padding, and times kMore columns behind it, for which the rows of a tile are a vector.
// c[t][r] = sum over k of a[t*depth*kRows + k*kRows + r] * b[k*ldb ..], more[t][e] = { the same of rows 0, 1, ... and column
// kLanes + e }; lanes of `more` behind the tile's rows are of no use.
template <bool kPairs, int kMore>
RIFFLE_INLINE void NarrowTiles(long depth, const float* __restrict a, const float* __restrict b, long ldb, Vec (&c)[2][kRows],
                               Vec (&more)[2][kMore + 1]) {
  const float* __restrict below = a + depth * kRows;
#pragma GCC unroll 16
  for (int r = 0; r < kRows; ++r) c[0][r] = c[1][r] = Vec{};
#pragma GCC unroll 4
  for (int e = 0; e < kMore; ++e) more[0][e] = more[1][e] = Vec{};
  for (long k = 0; k < depth; ++k) {
    Vec bk = Load(b);
    RIFFLE_KEEP(bk);
#pragma GCC unroll 16
    for (int r = 0; r < kRows; ++r) {
      MultiplyAdd<kPairs>(c[0][r], Spread<kPairs>(a + r), bk);
      MultiplyAdd<kPairs>(c[1][r], Spread<kPairs>(below + r), bk);
    }
#pragma GCC unroll 4
    for (int e = 0; e < kMore; ++e) {
      const Vec column = Spread<kPairs>(b + kLanes + e);
      MultiplyAdd<kPairs>(more[0][e], Load(a), column);
      MultiplyAdd<kPairs>(more[1][e], Load(below), column);
    }
    a += kRows;
    below += kRows;
    b += ldb;
  }
}

// A few single columns of kTiles row tiles: c[t][e] as `more` above, of column e.
template <bool kPairs, int kTiles, int kColumns>
RIFFLE_INLINE void ColumnTiles(long depth, const float* __restrict a, const float* __restrict b, long ldb,
                               Vec (&c)[kTiles][kColumns]) {
#pragma GCC unroll 4
  for (int t = 0; t < kTiles; ++t)
#pragma GCC unroll 4
    for (int e = 0; e < kColumns; ++e) c[t][e] = Vec{};
  for (long k = 0; k < depth; ++k) {
    Vec column[kColumns];
#pragma GCC unroll 4
    for (int e = 0; e < kColumns; ++e) column[e] = Spread<kPairs>(b + e);
#pragma GCC unroll 4
    for (int t = 0; t < kTiles; ++t) {
      const Vec rows = Load(a + t * depth * kRows);
#pragma GCC unroll 4
      for (int e = 0; e < kColumns; ++e) MultiplyAdd<kPairs>(c[t][e], rows, column[e]);
    }
    a += kRows;
    b += ldb;
  }
}

// c[r][q] = sum over k < depth of a[r*lda + k] * b[q*ldb + k]; depth is a multiple of kLanes.
template <bool kPairs = false>
RIFFLE_INLINE void DotTile(long depth, const float* __restrict a, long lda, const float* __restrict b,
                                  long ldb, Vec4 (&c)[kDotRows]) {
  Vec sum[kDotRows][kDotColumns];
#pragma GCC unroll 8
  for (int r = 0; r < kDotRows; ++r)
#pragma GCC unroll 4
    for (int q = 0; q < kDotColumns; ++q) sum[r][q] = Vec{};
  for (long k = 0; k < depth; k += kLanes) {
    Vec b0 = Load(b + k), b1 = Load(b + ldb + k), b2 = Load(b + 2 * ldb + k);
    const Vec b3 = Load(b + 3 * ldb + k);  // with 16 registers this one is read from memory each time
    RIFFLE_KEEP(b0);
    RIFFLE_KEEP(b1);
    RIFFLE_KEEP(b2);
#pragma GCC unroll 8
    for (int r = 0; r < kDotRows; ++r) {
      Vec ar = Load(a + r * lda + k);
      RIFFLE_KEEP(ar);
      MultiplyAdd<kPairs>(sum[r][0], ar, b0);
      MultiplyAdd<kPairs>(sum[r][1], ar, b1);
      MultiplyAdd<kPairs>(sum[r][2], ar, b2);
      MultiplyAdd<kPairs>(sum[r][3], ar, b3);
    }
  }
#if RIFFLE_LANES == 16
  static_assert(kDotRows == 6);
  Vec upper[4], lower[4];
#pragma GCC unroll 4
  for (int q = 0; q < kDotColumns; ++q) {
    upper[q] = FoldQuarters(FoldHalves(sum[0][q], sum[1][q]), FoldHalves(sum[2][q], sum[3][q]));
    const Vec last = FoldHalves(sum[4][q], sum[5][q]);
    lower[q] = FoldQuarters(last, last);
  }
  const Vec first_four = SumQuarters(upper), last_two = SumQuarters(lower);
  c[0] = Quarter<0>(first_four);
  c[1] = Quarter<1>(first_four);
  c[2] = Quarter<2>(first_four);
  c[3] = Quarter<3>(first_four);
  c[4] = Quarter<0>(last_two);
  c[5] = Quarter<1>(last_two);
#else
#pragma GCC unroll 8
  for (int r = 0; r < kDotRows; ++r) c[r] = SumEachOfFour(sum[r][0], sum[r][1], sum[r][2], sum[r][3]);
#endif
}

static RIFFLE_INLINE long RoundUp(long n, long to) { return (n + to - 1) / to * to; }
static RIFFLE_INLINE long Smaller(long a, long b) { return a < b ? a : b; }

}  // namespace riffle::RIFFLE_ISA

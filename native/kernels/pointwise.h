// 1x1 convolution: one matrix product whose rows are planes.
//
// A column block (a few hundred of the images*height*width columns) of every input plane is normalised into
// scratch once; all outputs are made from there. Backward, the block of dz (batch norm's gradient applied while
// loading) and the block of y serve both products: W^T dz gives the inputs' gradients, dz y^T the filters'.
// So a plane's memory is touched once forward and, with its gradient, once backward.
#pragma once

#include "kernels.h"
#include "tile.h"

namespace riffle::RIFFLE_ISA {
namespace {

// Columns of scratch rows are this much longer than the block: 64 bytes more keep rows of one panel from
// falling into the same cache sets.
constexpr long kRowSlack = 16;

// A row tile walks panels of columns inside a group small enough for the first-level cache beside the tile.
constexpr long kGroupFloats = 4096;

// At least what a line of 64 bytes holds, for it is in the cache whole.
RIFFLE_INLINE long GroupColumns(long depth, long columns) {
  constexpr long kFewest = kPanel < 16 ? 16 / kPanel : 1;
  const long panels = kGroupFloats / (depth * kPanel);
  return Smaller(columns, (panels < kFewest ? kFewest : panels) * kPanel);
}

// Weights of so many rows stay in the second-level cache while all groups of columns pass: those of conv5, 1.9 MB at 1.0x, came from
// the third for each group.
constexpr long kBandFloats = 64 * 1024;

// A multiple of what ForwardLastPanel takes together.
RIFFLE_INLINE long BandRows(long depth) {
  const long tiles = kBandFloats / (depth * kRows) / 4 * 4;
  return (tiles < 4 ? 4 : tiles) * kRows;
}

// A block is a short run of each plane, too short for the hardware to see a stream coming: asked for this many planes ahead.
constexpr int kAhead = 2;

template <class T>
RIFFLE_INLINE void Prefetch(const T* p, long count) {
  for (long i = 0; i < count; i += static_cast<long>(64 / sizeof(T))) __builtin_prefetch(p + i);
}

// A run of the columns of all planes.
struct Block {
  long begin, count, padded;  // columns; padded to whole panels
};

RIFFLE_INLINE Block BlockAt(long index, long block_columns, long columns) {
  const long begin = index * block_columns;
  const long count = Smaller(block_columns, columns - begin);
  return {begin, count, RoundUp(count, kPanel)};
}

// How planes are stored and multiplied. Of bf16 planes both factors are rounded to bf16 and products added in f32, the depth
// in its order, whether two of them are added by one instruction (Pairs) or by two (Unpacked): the bits are the same.
struct Floats {
  using Plane = float;
  static constexpr bool kPairs = false;
  static RIFFLE_INLINE Vec Factor(Vec v) { return v; }
};
struct Unpacked {
  using Plane = Bf16;
  static constexpr bool kPairs = false;
  static RIFFLE_INLINE Vec Factor(Vec v) { return Rounded(v); }
};
#if defined(RIFFLE_PAIRS)
struct Pairs {
  using Plane = Bf16;
  static constexpr bool kPairs = true;
};
#endif

// Rows of a block as the filters' product reads them: one per plane, of floats, or of pairs (column j, column j + lanes).
// Rows of the other products: the same floats, or a row for two planes, of pairs.
template <class Mode>
RIFFLE_INLINE long DotStride(long block_columns) {
  return (Mode::kPairs ? block_columns / 2 : block_columns) + kRowSlack;
}
RIFFLE_INLINE long RowStride(long block_columns) { return block_columns + kRowSlack; }
template <class Mode>
RIFFLE_INLINE long RowCount(long planes) {
  return Mode::kPairs ? (planes + 1) / 2 : planes;
}

// y = relu?(scale * z + shift), and dz = a*g + b*z + c, vector by vector.
template <class T, bool kRelu>
struct Normal {
  const T* z;
  Vec scale, shift;
  RIFFLE_INLINE Normal(const InputPlane<T>& x, long offset) : z(x.z + offset), scale(Set(x.scale)), shift(Set(x.shift)) {}
  RIFFLE_INLINE Vec operator()(long j) const {
    const Vec y = Load(z + j) * scale + shift;
    return kRelu ? Relu(y) : y;
  }
};

template <class T>
struct NormGradient {
  const T *g, *z;
  Vec a, b, c;
  RIFFLE_INLINE NormGradient(const OutputGradient<T>& d, long offset)
      : g(d.g + offset), z(d.z + offset), a(Set(d.a)), b(Set(d.b)), c(Set(d.c)) {}
  RIFFLE_INLINE Vec operator()(long j) const { return Load(g + j) * a + (Load(z + j) * b + c); }
};

struct Zeros {
  RIFFLE_INLINE Vec operator()(long) const { return Vec{}; }
};

// The vector at column j of `count`; zero from there on.
template <class Source>
RIFFLE_INLINE Vec At(const Source& source, long j, long count) {
  if (j + kLanes <= count) return source(j);
  return j < count ? KeepFirst(source(j), count - j) : Vec{};
}

// A plane's columns [0, padded) as a row of floats.
template <class Mode, class Source>
RIFFLE_INLINE void PutRow(const Source& source, long count, long padded, float* out) {
  long j = 0;
  for (; j + kLanes <= count; j += kLanes) Store(out + j, Mode::Factor(source(j)));
  for (; j < padded; j += kLanes) Store(out + j, Mode::Factor(At(source, j, count)));
}

#if defined(RIFFLE_PAIRS)
// As a row of pairs of its columns.
template <class Source>
RIFFLE_INLINE void PutColumnPairs(const Source& source, long count, long padded, float* out) {
  long j = 0;
  for (; j + kPanel <= count; j += kPanel, out += kLanes) Store(out, Pair(source(j), source(j + kLanes)));
  for (; j < padded; j += kPanel, out += kLanes) Store(out, Pair(At(source, j, count), At(source, j + kLanes, count)));
}

// Two planes as a row of pairs.
template <class First, class Second>
RIFFLE_INLINE void PutPlanePairs(const First& first, const Second& second, long count, long padded, float* out) {
  long j = 0;
  for (; j + kLanes <= count; j += kLanes) Store(out + j, Pair(first(j), second(j)));
  for (; j < padded; j += kLanes) Store(out + j, Pair(At(first, j, count), At(second, j, count)));
}

// Both of the above of two planes at once; `second_out` is null where there is no second.
template <class First, class Second>
RIFFLE_INLINE void PutBothPairs(const First& first, const Second& second, long count, long padded, float* planes,
                                float* first_out, float* second_out) {
  for (long j = 0; j < padded; j += kPanel, first_out += kLanes) {
    const bool whole = j + kPanel <= count;
    const Vec a0 = whole ? first(j) : At(first, j, count), a1 = whole ? first(j + kLanes) : At(first, j + kLanes, count);
    const Vec b0 = whole ? second(j) : At(second, j, count), b1 = whole ? second(j + kLanes) : At(second, j + kLanes, count);
    Store(planes + j, Pair(a0, b0));
    Store(planes + j + kLanes, Pair(a1, b1));
    Store(first_out, Pair(a0, a1));
    if (second_out) {
      Store(second_out, Pair(b0, b1));
      second_out += kLanes;
    }
  }
}
#endif

// Calls body(source) with the plane as its readers see it.
template <class T, class Body>
RIFFLE_INLINE void WithNormal(const InputPlane<T>& x, long offset, const Body& body) {
  if (x.relu) {
    body(Normal<T, true>(x, offset));
  } else {
    body(Normal<T, false>(x, offset));
  }
}

}  // namespace

template <class Mode>
size_t PackedSize(long rows, long columns) {
  return static_cast<size_t>(RoundUp(rows, kRows) * RowCount<Mode>(columns)) + kLanes;  // a whole vector is read at each place
}

template <class Mode>
void PackWeights(const float* matrix, long rows, long columns, long row_stride, long column_stride, float* packed) {
  for (long tile = 0; tile < rows; tile += kRows)
    for (long k = 0; k < columns; k += Mode::kPairs ? 2 : 1)
      for (long r = 0; r < kRows; ++r) {
        const float* at = matrix + (tile + r) * row_stride + k * column_stride;
        const bool missing = tile + r >= rows;
        if constexpr (Mode::kPairs) {
          const uint32_t hi = missing ? 0 : RoundedBitsOf(at[0]);
          const uint32_t lo = missing || k + 1 == columns ? 0 : RoundedBitsOf(at[column_stride]);
          *packed++ = __builtin_bit_cast(float, hi | lo >> 16);
        } else if constexpr (sizeof(typename Mode::Plane) == 2) {
          *packed++ = missing ? 0.0f : __builtin_bit_cast(float, RoundedBitsOf(at[0]));
        } else {
          *packed++ = missing ? 0.0f : at[0];
        }
      }
  for (int i = 0; i < kLanes; ++i) *packed++ = 0.0f;
}
namespace {

// Brings planes' columns of the next block closer, a few lines at a time, while the block at hand is being multiplied: the
// memory would rest meanwhile.
template <class PlaneAt>
class NextBlock {
 public:
  // Of `count` columns in each of so many planes, to be brought in about `calls` calls.
  RIFFLE_INLINE NextBlock(const PlaneAt& at, long planes, long bytes, long calls)
      : at_(at), planes_(bytes > 0 ? planes : 0), lines_((bytes + 63) / 64), each_(calls > 0 ? planes * lines_ / calls + 1 : 0) {}

  RIFFLE_INLINE void Bring() {
    for (long i = 0; i < each_ && plane_ < planes_; ++i) {
      __builtin_prefetch(at_(plane_) + 64 * line_, 0, 2);
      if (++line_ < lines_) continue;
      line_ = 0;
      ++plane_;
    }
  }

 private:
  const PlaneAt& at_;
  const long planes_, lines_, each_;
  long plane_ = 0, line_ = 0;
};

// Calls body(row, rows, column) for the tiles of rows [begin, end) and so many columns: band by band of rows, group by group of columns.
// Those of a row come in the order of its columns, in which they are added up.
template <class Body>
RIFFLE_INLINE void ForEachTile(long columns, long depth, long begin, long end, const Body& body) {
  const long group = GroupColumns(depth, columns), height = BandRows(depth);
  for (long band = begin; band < end; band += height)
    for (long g = 0; g < columns; g += group)
      for (long row = band; row < Smaller(band + height, end); row += kRows)
        for (long j = g; j < Smaller(g + group, columns); j += kPanel) body(row, Smaller(kRows, end - row), j);
}

// Calls body(std-like constant) with how many rows a tile has: all, or what is left, rounded up to an even number where a tile
// is so large that rows of zeros cost.
template <int kCount>
struct Rows {
  static constexpr int value = kCount;
};
template <class Body>
RIFFLE_INLINE void WithRows(long rows, const Body& body) {
  if (rows >= kRows) return body(Rows<kRows>{});
  if constexpr (kRows == 12) {
    if (rows == 10) return body(Rows<10>{});
    if (rows == 8) return body(Rows<8>{});
    if (rows == 4) return body(Rows<4>{});
  } else {
    if (rows == 4) return body(Rows<4>{});
    if (rows == 2) return body(Rows<2>{});
  }
  body(Rows<0>{});
}

}  // namespace

}  // namespace riffle::RIFFLE_ISA

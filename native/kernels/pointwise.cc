// 1x1 convolution: one matrix product whose rows are planes.
//
// A column block (a few hundred of the images*height*width columns) of every input plane is normalised into
// scratch once; all outputs are made from there. Backward, the block of dz (batch norm's gradient applied while
// loading) and the block of y serve both products: W^T dz gives the inputs' gradients, dz y^T the filters'.
// So a plane's memory is touched once forward and, with its gradient, once backward.
#include "kernels.h"
#include "last_panel.h"
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

template <class Mode>
size_t PointwiseForwardScratch(int inputs, int outputs, long block_columns) {
  return (RowCount<Mode>(inputs) + 1) * RowStride(block_columns) + 2 * RoundUp(outputs, kRows) * kLanes + kLanes;
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

// One tile of the output, of kCount rows, and what it adds to the sums.
template <class Mode, int kCount>
RIFFLE_INLINE void ForwardTile(const PointwiseForward<typename Mode::Plane>& p, const float* a, const float* y, long ld, long depth,
                               long row, long column, float* sums) {
  Vec c[kCount][kVecs];
  RowTile<Mode::kPairs, kCount>(depth, a, y, ld, c);
  // The columns behind the last are zero here, so they do not count in the sums.
  if (sums) {
#pragma GCC unroll 16
    for (int r = 0; r < kCount; ++r) {
      Store(sums, Load(sums) + (c[r][0] + c[r][1]));
      Store(sums + kLanes, Load(sums + kLanes) + (c[r][0] * c[r][0] + c[r][1] * c[r][1]));
      sums += 2 * kLanes;
    }
  }
#pragma GCC unroll 16
  for (int r = 0; r < kCount; ++r) StoreTwo(p.z[row + r] + column, c[r][0], c[r][1]);
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

// The same for a number of rows that has no tile of its own: those behind the last are zero, and not stored.
template <class Mode>
RIFFLE_INLINE void OddForwardTile(const PointwiseForward<typename Mode::Plane>& p, const float* a, const float* y, long ld,
                                  long depth, long row, long rows, long column, float* sums) {
  Vec c[kRows][kVecs];
  RowTile<Mode::kPairs>(depth, a, y, ld, c);
#pragma GCC unroll 16
  for (int r = 0; r < kRows; ++r) {
    if (r >= rows) break;
    if (sums) {
      Store(sums, Load(sums) + (c[r][0] + c[r][1]));
      Store(sums + kLanes, Load(sums + kLanes) + (c[r][0] * c[r][0] + c[r][1] * c[r][1]));
      sums += 2 * kLanes;
    }
    StoreTwo(p.z[row + r] + column, c[r][0], c[r][1]);
  }
}

// All inputs of a block, as rows of the product.
template <class Mode>
RIFFLE_INLINE void PutForwardInputs(const PointwiseForward<typename Mode::Plane>& p, const Block& block, float* y) {
  const long ld = RowStride(p.block_columns);
  const auto ahead = [&](int k) {
    if (k + kAhead < p.inputs) Prefetch(p.x[k + kAhead].z + block.begin, block.count);
  };
#if defined(RIFFLE_PAIRS)
  if constexpr (Mode::kPairs) {
    for (int k = 0; k < p.inputs; k += 2) {
      ahead(k);
      ahead(k + 1);
      float* out = y + k / 2 * ld;
      WithNormal(p.x[k], block.begin, [&](const auto& first) {
        if (k + 1 == p.inputs) return PutPlanePairs(first, Zeros{}, block.count, block.padded, out);
        WithNormal(p.x[k + 1], block.begin,
                   [&](const auto& second) { PutPlanePairs(first, second, block.count, block.padded, out); });
      });
    }
  }
#endif
  if constexpr (!Mode::kPairs)
    for (int k = 0; k < p.inputs; ++k) {
      ahead(k);
      WithNormal(p.x[k], block.begin,
                 [&](const auto& source) { PutRow<Mode>(source, block.count, block.padded, y + k * ld); });
    }
}

}  // namespace

template <class Mode>
void PointwiseForwardTask(const PointwiseForward<typename Mode::Plane>& p, long task, float* scratch) {
  using T = typename Mode::Plane;
  [[maybe_unused]] const Arithmetic<T> arithmetic;
  const long tiles = (p.outputs + kRows - 1) / kRows;
  const long part = task % p.row_parts;
  const long row_begin = tiles * part / p.row_parts * kRows;
  const long row_end = Smaller(tiles * (part + 1) / p.row_parts * kRows, p.outputs);

  const long ld = RowStride(p.block_columns), depth = RowCount<Mode>(p.inputs);
  float* y = scratch;
  float* sums = scratch + (depth + 1) * ld;  // [rows][2] vectors
  const long blocks = (p.columns + p.block_columns - 1) / p.block_columns;
  const long run = task / p.row_parts, first = run * blocks / p.runs, last = (run + 1) * blocks / p.runs;
  for (long index = first; index < last; ++index) {
    const Block block = BlockAt(index, p.block_columns, p.columns);
    PutForwardInputs<Mode>(p, block, y);
    if (p.sums)
      for (long i = 2 * row_begin * kLanes; i < 2 * RoundUp(row_end, kRows) * kLanes; i += kLanes) Store(sums + i, Vec{});

    const Block next = BlockAt(index + 1, p.block_columns, p.columns);
    const auto next_plane = [&](long k) { return reinterpret_cast<const char*>(p.x[k].z + next.begin); };
    NextBlock ahead(next_plane, p.inputs, index + 1 < last ? next.count * static_cast<long>(sizeof(T)) : 0,
                    (row_end - row_begin + kRows - 1) / kRows * (block.padded / kPanel));

    const LastPanel last_panel(block, p.sums != nullptr);
    ForEachTile(block.padded, depth, row_begin, row_end, [&](long row, long rows, long j) {
      const float* a = p.weights + row * depth;
      float* s = p.sums ? sums + 2 * row * kLanes : nullptr;
      ahead.Bring();
      if (j == last_panel.begin && ForwardLastPanel<Mode>(p, last_panel, block, a, y + j, ld, depth, row_begin, row, row_end)) return;
      WithRows(rows, [&](auto count) {
        if constexpr (count.value > 0) {
          ForwardTile<Mode, count.value>(p, a, y + j, ld, depth, row, block.begin + j, s);
        } else {
          OddForwardTile<Mode>(p, a, y + j, ld, depth, row, rows, block.begin + j, s);
        }
      });
    });
    if (p.sums) {
      float* out = p.sums + index * 2 * p.outputs;
      for (long row = row_begin; row < row_end; ++row) {
        out[row] = Sum(Load(sums + 2 * row * kLanes));
        out[p.outputs + row] = Sum(Load(sums + (2 * row + 1) * kLanes));
      }
    }
  }
}

long DwRows(int outputs) { return RoundUp(outputs, kDotRows); }
long DwColumns(int inputs) { return RoundUp(inputs, kDotColumns); }

template <class Mode>
size_t PointwiseBackwardScratch(int inputs, int outputs, long block_columns) {
  const long dot_rows = RoundUp(outputs, kDotRows) + RoundUp(inputs, kDotColumns) + 1;
  const long rows = Mode::kPairs ? RowCount<Mode>(outputs) + 1 : 0;
  return dot_rows * DotStride<Mode>(block_columns) + rows * RowStride(block_columns) + 2 * RoundUp(inputs, kRows) * kLanes +
         kLanes;
}

namespace {

// dw[rows][columns] += dz y^T over one block, or = where it is the `first`. Rows of dz stay in the first-level cache while y
// streams by.
template <class Mode, class Ahead>
void FilterGradients(long rows, long columns, long depth, const float* dz, const float* y, long ld, bool first, float* dw,
                     Ahead& ahead) {
  const long fitting = kGroupFloats / ld / kDotRows * kDotRows;
  const long rows_in_cache = fitting < kDotRows ? kDotRows : fitting;
  for (long i_begin = 0; i_begin < rows; i_begin += rows_in_cache) {
    const long i_end = Smaller(i_begin + rows_in_cache, rows);
    for (long q = 0; q < columns; q += kDotColumns)
      for (long i = i_begin; i < i_end; i += kDotRows) {
        ahead.Bring();
        Vec4 c[kDotRows];
        DotTile<Mode::kPairs>(depth, dz + i * ld, ld, y + q * ld, ld, c);
        typedef float Vec4Anywhere __attribute__((vector_size(16), aligned(4), may_alias));
#pragma GCC unroll 8
        for (int r = 0; r < kDotRows; ++r) {
          Vec4Anywhere* out = reinterpret_cast<Vec4Anywhere*>(dw + (i + r) * columns + q);
          *out = first ? c[r] : *out + c[r];
        }
      }
  }
}

// Keeps v where the y beside it is positive; `y` is a row of the filters' product, j its column.
template <class Mode>
RIFFLE_INLINE void KeepPositive(const float* y, long j, Vec& v0, Vec& v1) {
  if constexpr (Mode::kPairs) {
    const VecInt pairs = __builtin_bit_cast(VecInt, Load(y + j / 2));
    v0 = pairs > VecInt{} + 0xffff ? v0 : Vec{};
    v1 = (pairs << 16) > VecInt{} ? v1 : Vec{};
  } else {
    v0 = Load(y + j) > Vec{} ? v0 : Vec{};
    v1 = Load(y + j + kLanes) > Vec{} ? v1 : Vec{};
  }
}

// One tile of the inputs' gradients: rows [row, row + rows) at a column of the block.
template <class Mode, int kCount, bool kFrozen>
RIFFLE_INLINE void BackwardTile(const PointwiseBackward<typename Mode::Plane>& p, const Block& block, const float* a,
                                const float* dz, const float* y, long depth, long row, long rows, long j, float* s) {
  using T = typename Mode::Plane;
  const long y_ld = DotStride<Mode>(p.block_columns);
  Vec c[kCount][kVecs];
  RowTile<Mode::kPairs, kCount>(depth, a, dz + j, RowStride(p.block_columns), c);
  const long valid = block.count - j;  // columns from here on; fewer than a panel only at the end
#pragma GCC unroll 16
  for (int r = 0; r < kCount; ++r) {
    if (r >= rows) break;
    const InputPlane<T>& x = p.x[row + r];
    const InputGradient<T>& gx = p.gx[row + r];
    if (kFrozen && !gx.g) {
      s += 2 * kLanes;
      continue;
    }
    T* out = gx.g + block.begin + j;
    const T* z = x.z + block.begin + j;
    Vec v0 = c[r][0], v1 = c[r][1];
    if (x.relu) KeepPositive<Mode>(y + (row + r) * y_ld, j, v0, v1);
    if (gx.accumulate) {
      v0 += Load(out);
      v1 += Load(out + kLanes);
    }
    Vec z0 = Load(z), z1 = Load(z + kLanes);
    if (valid < kPanel) {
      v0 = KeepFirst(v0, valid);
      v1 = KeepFirst(v1, valid - kLanes);
      z0 = KeepFirst(z0, valid);
      z1 = KeepFirst(z1, valid - kLanes);
    }
    StoreTwo(out, v0, v1);
    Store(s, Load(s) + (v0 + v1));
    Store(s + kLanes, Load(s + kLanes) + (v0 * z0 + v1 * z1));
    s += 2 * kLanes;
  }
}

// Gradients of the inputs of one block: gx (+)= mask * W^T dz, and their sums. Frozen inputs have no place for theirs.
template <class Mode, bool kFrozen, class Ahead>
void InputGradients(const PointwiseBackward<typename Mode::Plane>& p, const Block& block, const float* dz, const float* y,
                    float* sums, Ahead& ahead) {
  const long depth = RowCount<Mode>(p.outputs);
  ForEachTile(block.padded, depth, 0, p.inputs, [&](long row, long rows, long j) {
    const float* a = p.weights + row * depth;
    ahead.Bring();
    WithRows(rows, [&](auto count) {
      constexpr int kCount = count.value > 0 ? count.value : kRows;
      BackwardTile<Mode, kCount, kFrozen>(p, block, a, dz, y, depth, row, rows, j, sums + 2 * row * kLanes);
    });
  });
}

// dz of a block, as rows of the filters' product and of the other.
template <class Mode>
RIFFLE_INLINE void PutOutputGradients(const PointwiseBackward<typename Mode::Plane>& p, const Block& block, float* dz,
                                      [[maybe_unused]] float* pairs) {
  using Source = NormGradient<typename Mode::Plane>;
  const long dz_ld = DotStride<Mode>(p.block_columns);
  const auto ahead = [&](int o) {
    if (o + kAhead >= p.outputs) return;
    Prefetch(p.dz[o + kAhead].g + block.begin, block.count);
    Prefetch(p.dz[o + kAhead].z + block.begin, block.count);
  };
#if defined(RIFFLE_PAIRS)
  if constexpr (Mode::kPairs) {
    const long ld = RowStride(p.block_columns);
    for (int o = 0; o < p.outputs; o += 2) {
      ahead(o);
      ahead(o + 1);
      const Source first(p.dz[o], block.begin);
      float *planes = pairs + o / 2 * ld, *own = dz + o * dz_ld;
      if (o + 1 == p.outputs) {
        PutBothPairs(first, Zeros{}, block.count, block.padded, planes, own, nullptr);
      } else {
        PutBothPairs(first, Source(p.dz[o + 1], block.begin), block.count, block.padded, planes, own, own + dz_ld);
      }
    }
  }
#endif
  if constexpr (!Mode::kPairs)
    for (int o = 0; o < p.outputs; ++o) {
      ahead(o);
      PutRow<Mode>(Source(p.dz[o], block.begin), block.count, block.padded, dz + o * dz_ld);
    }
}

template <class Mode>
RIFFLE_INLINE void PutInputs(const PointwiseBackward<typename Mode::Plane>& p, const Block& block, float* y) {
  const long ld = DotStride<Mode>(p.block_columns);
  for (int i = 0; i < p.inputs; ++i) {
    if (i + kAhead < p.inputs) Prefetch(p.x[i + kAhead].z + block.begin, block.count);
    WithNormal(p.x[i], block.begin, [&](const auto& source) {
#if defined(RIFFLE_PAIRS)
      if constexpr (Mode::kPairs) return PutColumnPairs(source, block.count, block.padded, y + i * ld);
#endif
      if constexpr (!Mode::kPairs) PutRow<Mode>(source, block.count, block.padded, y + i * ld);
    });
  }
}

}  // namespace

template <class Mode>
void PointwiseBackwardTask(const PointwiseBackward<typename Mode::Plane>& p, long task, float* scratch) {
  [[maybe_unused]] const Arithmetic<typename Mode::Plane> arithmetic;
  const long blocks = (p.columns + p.block_columns - 1) / p.block_columns;
  const long ld = DotStride<Mode>(p.block_columns);
  const long dw_rows = DwRows(p.outputs), dw_columns = DwColumns(p.inputs);
  float* dz = scratch;
  float* y = dz + dw_rows * ld;
  float* pairs = y + (dw_columns + 1) * ld;
  float* sums = pairs + (Mode::kPairs ? (RowCount<Mode>(p.outputs) + 1) * RowStride(p.block_columns) : 0);
  float* dw = p.dw + task * dw_rows * dw_columns;
  bool frozen = false;
  for (int i = 0; p.gx && i < p.inputs; ++i) frozen = frozen || !p.gx[i].g;

  const long first = task * blocks / p.groups, last = (task + 1) * blocks / p.groups;
  for (long index = first; index < last; ++index) {
    const Block block = BlockAt(index, p.block_columns, p.columns);
    const Block next = BlockAt(index + 1, p.block_columns, p.columns);
    const long next_bytes = index + 1 < last ? next.count * static_cast<long>(sizeof(typename Mode::Plane)) : 0;
    const long depth = Mode::kPairs ? block.padded / 2 : block.padded;
    PutOutputGradients<Mode>(p, block, dz, pairs);
    for (long o = p.outputs; o < dw_rows; ++o)
      for (long j = 0; j < depth; j += kLanes) Store(dz + o * ld + j, Vec{});
    PutInputs<Mode>(p, block, y);
    for (long i = p.inputs; i < dw_columns; ++i)
      for (long j = 0; j < depth; j += kLanes) Store(y + i * ld + j, Vec{});
    for (long i = 0; i < 2 * RoundUp(p.inputs, kRows) * kLanes; i += kLanes) Store(sums + i, Vec{});

    const float* rows = Mode::kPairs ? pairs : dz;
    const auto next_input = [&](long i) { return reinterpret_cast<const char*>(p.x[i].z + next.begin); };
    NextBlock inputs_ahead(next_input, p.inputs, next_bytes, (p.inputs + kRows - 1) / kRows * (block.padded / kPanel));
    if (frozen) {
      InputGradients<Mode, true>(p, block, rows, y, sums, inputs_ahead);
    } else if (p.gx) {
      InputGradients<Mode, false>(p, block, rows, y, sums, inputs_ahead);
    }
    const auto next_output = [&](long i) {
      const auto& d = p.dz[i / 2];
      return reinterpret_cast<const char*>((i % 2 ? d.z : d.g) + next.begin);
    };
    NextBlock outputs_ahead(next_output, 2L * p.outputs, next_bytes, dw_rows / kDotRows * (dw_columns / kDotColumns));
    FilterGradients<Mode>(dw_rows, dw_columns, depth, dz, y, ld, index == first, dw, outputs_ahead);

    float* out = p.sums + index * 2 * p.inputs;
    for (int i = 0; i < p.inputs; ++i) {
      out[i] = Sum(Load(sums + 2 * i * kLanes));
      out[p.inputs + i] = Sum(Load(sums + (2 * i + 1) * kLanes));
    }
  }
}

}  // namespace riffle::RIFFLE_ISA

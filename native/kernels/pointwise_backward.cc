// Gradients of a 1x1 convolution's inputs and filters.
#include "pointwise.h"

namespace riffle::RIFFLE_ISA {

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

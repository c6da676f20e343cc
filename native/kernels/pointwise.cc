// 1x1 convolution: one matrix product whose rows are planes.
//
// A column block (a few hundred of the images*height*width columns) of every input plane is normalised into
// scratch once; all outputs are made from there. Backward, the block of dz (batch norm's gradient applied while
// loading) and the block of y serve both products: W^T dz gives the inputs' gradients, dz y^T the filters'.
// So a plane's memory is touched once forward and, with its gradient, once backward.
#include "kernels.h"
#include "tile.h"

namespace riffle::RIFFLE_ISA {
namespace {

// Columns of scratch rows are this much longer than the block: 64 bytes more keep rows of one panel from
// falling into the same cache sets.
constexpr long kRowSlack = 16;

// A row tile walks panels of columns inside a group small enough for the first-level cache beside the tile.
constexpr long kGroupFloats = 4096;

RIFFLE_INLINE long GroupColumns(long depth, long columns) {
  const long panels = kGroupFloats / (depth * kPanel);
  return Smaller(columns, (panels < 1 ? 1 : panels) * kPanel);
}

// A block is a short run of each plane, too short for the hardware to see a stream coming: asked for this many planes ahead.
constexpr int kAhead = 2;

RIFFLE_INLINE void Prefetch(const float* p, long count) {
  for (long i = 0; i < count; i += 16) __builtin_prefetch(p + i);
}

// y = relu?(scale * z + shift) of columns [0, count) into out, zeros up to `padded`.
RIFFLE_INLINE void Normalise(const InputPlane& x, long offset, long count, long padded, float* out) {
  const float* z = x.z + offset;
  const Vec scale = Set(x.scale), shift = Set(x.shift);
  long j = 0;
  if (x.relu) {
    for (; j + kLanes <= count; j += kLanes) Store(out + j, Relu(Load(z + j) * scale + shift));
  } else {
    for (; j + kLanes <= count; j += kLanes) Store(out + j, Load(z + j) * scale + shift);
  }
  if (j < count) {
    Vec y = Load(z + j) * scale + shift;
    if (x.relu) y = Relu(y);
    Store(out + j, KeepFirst(y, count - j));
    j += kLanes;
  }
  for (; j < padded; j += kLanes) Store(out + j, Vec{});
}

// dz = a*g + b*z + c, likewise.
RIFFLE_INLINE void OutputGradients(const OutputGradient& d, long offset, long count, long padded, float* out) {
  const float *g = d.g + offset, *z = d.z + offset;
  const Vec a = Set(d.a), b = Set(d.b), c = Set(d.c);
  long j = 0;
  for (; j + kLanes <= count; j += kLanes) Store(out + j, Load(g + j) * a + (Load(z + j) * b + c));
  if (j < count) {
    Store(out + j, KeepFirst(Load(g + j) * a + (Load(z + j) * b + c), count - j));
    j += kLanes;
  }
  for (; j < padded; j += kLanes) Store(out + j, Vec{});
}

struct Block {
  long begin, count, padded;  // columns; padded to whole panels
};

RIFFLE_INLINE Block BlockAt(long index, long block_columns, long columns) {
  const long begin = index * block_columns;
  const long count = Smaller(block_columns, columns - begin);
  return {begin, count, RoundUp(count, kPanel)};
}

}  // namespace

void PackWeights(const float* matrix, long rows, long columns, long row_stride, long column_stride,
                 float* packed) {
  for (long tile = 0; tile < rows; tile += kRows)
    for (long k = 0; k < columns; ++k)
      for (long r = 0; r < kRows; ++r)
        *packed++ = tile + r < rows ? matrix[(tile + r) * row_stride + k * column_stride] : 0.0f;
}

size_t PointwiseForwardScratch(int inputs, int outputs, long block_columns) {
  return (inputs + 1) * (block_columns + kRowSlack) + 2 * RoundUp(outputs, kRows) * kLanes + kLanes;
}

void PointwiseForwardTask(const PointwiseForward& p, long task, float* scratch) {
  const Block block = BlockAt(task / p.row_parts, p.block_columns, p.columns);
  const long tiles = (p.outputs + kRows - 1) / kRows;
  const long part = task % p.row_parts;
  const long row_begin = tiles * part / p.row_parts * kRows;
  const long row_end = tiles * (part + 1) / p.row_parts * kRows;

  const long ld = p.block_columns + kRowSlack;
  float* y = scratch;
  float* sums = scratch + (p.inputs + 1) * ld;  // [rows][2] vectors
  for (int k = 0; k < p.inputs; ++k) {
    if (k + kAhead < p.inputs) Prefetch(p.x[k + kAhead].z + block.begin, block.count);
    Normalise(p.x[k], block.begin, block.count, block.padded, y + k * ld);
  }
  if (p.sums)
    for (long i = 2 * row_begin * kLanes; i < 2 * row_end * kLanes; i += kLanes) Store(sums + i, Vec{});

  // At inference a last panel that is half padding is made by pairs of row tiles; a batch of one has few panels.
  const long narrow = block.padded - block.count >= kLanes && !p.sums ? block.padded - kPanel : -1;
  const long group = GroupColumns(p.inputs, block.padded);
  for (long g = 0; g < block.padded; g += group) {
    const long g_end = Smaller(g + group, block.padded);
    for (long row = row_begin; row < row_end; row += kRows) {
      const float* a = p.weights + row * p.inputs;
      for (long j = g; j < g_end; j += kPanel) {
        if (j == narrow && (row - row_begin) / kRows % 2 == 1) continue;  // made with the tile above
        if (j == narrow && row + kRows < row_end) {
          Vec c[2][kRows];
          NarrowTiles(p.inputs, a, y + j, ld, c);
          const long rows = Smaller(2 * kRows, p.outputs - row);
#pragma GCC unroll 32
          for (int r = 0; r < 2 * kRows; ++r) {
            if (r >= rows) break;
            Store(p.z[row + r] + block.begin + j, c[r / kRows][r % kRows]);
          }
          continue;
        }
        Vec c[kRows][kVecs];
        RowTile(p.inputs, a, y + j, ld, c);
        // The columns behind the last are zero here, so they do not count in the sums.
        if (p.sums) {
          float* s = sums + 2 * row * kLanes;
#pragma GCC unroll 16
          for (int r = 0; r < kRows; ++r) {
            Store(s, Load(s) + (c[r][0] + c[r][1]));
            Store(s + kLanes, Load(s + kLanes) + (c[r][0] * c[r][0] + c[r][1] * c[r][1]));
            s += 2 * kLanes;
          }
        }
        const long rows = Smaller(kRows, p.outputs - row);
        if (rows == kRows) {
#pragma GCC unroll 16
          for (int r = 0; r < kRows; ++r) {
            float* z = p.z[row + r] + block.begin + j;
            Store(z, c[r][0]);
            Store(z + kLanes, c[r][1]);
          }
        } else {
#pragma GCC unroll 16
          for (int r = 0; r < kRows; ++r) {
            if (r >= rows) break;
            float* z = p.z[row + r] + block.begin + j;
            Store(z, c[r][0]);
            Store(z + kLanes, c[r][1]);
          }
        }
      }
    }
  }
  if (p.sums) {
    float* out = p.sums + task / p.row_parts * 2 * p.outputs;
    for (long row = row_begin; row < row_end && row < p.outputs; ++row) {
      out[row] = Sum(Load(sums + 2 * row * kLanes));
      out[p.outputs + row] = Sum(Load(sums + (2 * row + 1) * kLanes));
    }
  }
}

long DwRows(int outputs) { return RoundUp(outputs, kDotRows); }
long DwColumns(int inputs) { return RoundUp(inputs, kDotColumns); }

size_t PointwiseBackwardScratch(int inputs, int outputs, long block_columns) {
  return (RoundUp(outputs, kDotRows) + RoundUp(inputs, kDotColumns) + 1) * (block_columns + kRowSlack) +
         2 * RoundUp(inputs, kRows) * kLanes + kLanes;
}

namespace {

// dw[rows][columns] += dz y^T over one block. Rows of dz stay in the first-level cache while y streams by.
void FilterGradients(long rows, long columns, long depth, const float* dz, const float* y, long ld, float* dw) {
  const long fitting = kGroupFloats / ld / kDotRows * kDotRows;
  const long rows_in_cache = fitting < kDotRows ? kDotRows : fitting;
  for (long i_begin = 0; i_begin < rows; i_begin += rows_in_cache) {
    const long i_end = Smaller(i_begin + rows_in_cache, rows);
    for (long q = 0; q < columns; q += kDotColumns)
      for (long i = i_begin; i < i_end; i += kDotRows) {
        Vec4 c[kDotRows];
        DotTile(depth, dz + i * ld, ld, y + q * ld, ld, c);
        typedef float Vec4Anywhere __attribute__((vector_size(16), aligned(4), may_alias));
#pragma GCC unroll 8
        for (int r = 0; r < kDotRows; ++r) {
          Vec4Anywhere* out = reinterpret_cast<Vec4Anywhere*>(dw + (i + r) * columns + q);
          *out = *out + c[r];
        }
      }
  }
}

// Gradients of the inputs of one block: gx (+)= mask * W^T dz, and their sums. Frozen inputs have no place for theirs.
template <bool kFrozen>
void InputGradients(const PointwiseBackward& p, const Block& block, const float* dz, const float* y, long ld,
                    float* sums) {
  const long group = GroupColumns(p.outputs, block.padded);
  for (long g = 0; g < block.padded; g += group) {
    const long g_end = Smaller(g + group, block.padded);
    for (long row = 0; row < p.inputs; row += kRows) {
      const float* a = p.weights + row * p.outputs;
      for (long j = g; j < g_end; j += kPanel) {
        Vec c[kRows][kVecs];
        RowTile(p.outputs, a, dz + j, ld, c);
        const long valid = block.count - j;  // columns from here on; fewer than a panel only at the end
        const long rows = Smaller(kRows, p.inputs - row);
        float* s = sums + 2 * row * kLanes;
#pragma GCC unroll 16
        for (int r = 0; r < kRows; ++r) {
          if (r >= rows) break;
          const InputPlane& x = p.x[row + r];
          const InputGradient& gx = p.gx[row + r];
          if (kFrozen && !gx.g) {
            s += 2 * kLanes;
            continue;
          }
          float* out = gx.g + block.begin + j;
          const float* z = x.z + block.begin + j;
          const float* yr = y + (row + r) * ld + j;
          Vec v0 = c[r][0], v1 = c[r][1];
          if (x.relu) {
            v0 = Load(yr) > Vec{} ? v0 : Vec{};
            v1 = Load(yr + kLanes) > Vec{} ? v1 : Vec{};
          }
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
          Store(out, v0);
          Store(out + kLanes, v1);
          Store(s, Load(s) + (v0 + v1));
          Store(s + kLanes, Load(s + kLanes) + (v0 * z0 + v1 * z1));
          s += 2 * kLanes;
        }
      }
    }
  }
}

}  // namespace

void PointwiseBackwardTask(const PointwiseBackward& p, long task, float* scratch) {
  const long blocks = (p.columns + p.block_columns - 1) / p.block_columns;
  const long ld = p.block_columns + kRowSlack;
  const long dw_rows = DwRows(p.outputs), dw_columns = DwColumns(p.inputs);
  float* dz = scratch;
  float* y = dz + dw_rows * ld;
  float* sums = y + (dw_columns + 1) * ld;
  float* dw = p.dw + task * dw_rows * dw_columns;
  bool frozen = false;
  for (int i = 0; p.gx && i < p.inputs; ++i) frozen = frozen || !p.gx[i].g;
  for (long i = 0; i < dw_rows * dw_columns; ++i) dw[i] = 0.0f;

  for (long index = task * blocks / p.groups; index < (task + 1) * blocks / p.groups; ++index) {
    const Block block = BlockAt(index, p.block_columns, p.columns);
    for (int o = 0; o < p.outputs; ++o) {
      if (o + kAhead < p.outputs) {
        Prefetch(p.dz[o + kAhead].g + block.begin, block.count);
        Prefetch(p.dz[o + kAhead].z + block.begin, block.count);
      }
      OutputGradients(p.dz[o], block.begin, block.count, block.padded, dz + o * ld);
    }
    for (long o = p.outputs; o < dw_rows; ++o)
      for (long j = 0; j < block.padded; j += kLanes) Store(dz + o * ld + j, Vec{});
    for (int i = 0; i < p.inputs; ++i) {
      if (i + kAhead < p.inputs) Prefetch(p.x[i + kAhead].z + block.begin, block.count);
      Normalise(p.x[i], block.begin, block.count, block.padded, y + i * ld);
    }
    for (long i = p.inputs; i < dw_columns; ++i)
      for (long j = 0; j < block.padded; j += kLanes) Store(y + i * ld + j, Vec{});
    for (long i = 0; i < 2 * RoundUp(p.inputs, kRows) * kLanes; i += kLanes) Store(sums + i, Vec{});

    if (frozen) {
      InputGradients<true>(p, block, dz, y, ld, sums);
    } else if (p.gx) {
      InputGradients<false>(p, block, dz, y, ld, sums);
    }
    FilterGradients(dw_rows, dw_columns, block.padded, dz, y, ld, dw);

    float* out = p.sums + index * 2 * p.inputs;
    for (int i = 0; i < p.inputs; ++i) {
      out[i] = Sum(Load(sums + 2 * i * kLanes));
      out[p.inputs + i] = Sum(Load(sums + (2 * i + 1) * kLanes));
    }
  }
}

}  // namespace riffle::RIFFLE_ISA

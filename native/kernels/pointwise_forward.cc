// 1x1 convolution forward; pointwise.h has the plan.
#include "last_panel.h"

namespace riffle::RIFFLE_ISA {

template <class Mode>
size_t PointwiseForwardScratch(int inputs, int outputs, long block_columns) {
  return (RowCount<Mode>(inputs) + 1) * RowStride(block_columns) + 2 * RoundUp(outputs, kRows) * kLanes + kLanes;
}

namespace {

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

}  // namespace riffle::RIFFLE_ISA

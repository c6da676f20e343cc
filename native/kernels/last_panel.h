// The end of a block of columns where it is no whole panel: which tiles make it, and how they are stored.
#pragma once

#include "pointwise.h"

namespace riffle::RIFFLE_ISA {
namespace {

// At inference a last panel that is padding in great part is made by other tiles: pairs of row tiles of one vector, single
// columns. A batch of one has few panels: 49 columns are three vectors and one column, not four vectors.
struct LastPanel {
  long begin = -1;         // its first column; -1 where it is like the others
  bool vector = false;     // whether it has a whole vector, or a large part of one,
  int columns = 0;         // and how many single columns behind that
  RIFFLE_INLINE LastPanel(const Block& block, bool sums) {
    const long tail = block.count % kPanel;
    if (sums || tail == 0) return;
    if (tail <= kFewColumns) {
      columns = static_cast<int>(tail);
    } else if (tail <= kLanes) {
      vector = true;
    } else if (tail <= kLanes + Smaller(kFewColumns, 1)) {
      vector = true;
      columns = static_cast<int>(tail - kLanes);
    } else {
      return;
    }
    begin = block.padded - kPanel;
  }
};

// A column of a row tile to its planes.
template <class T>
RIFFLE_INLINE void StoreColumn(T* const* z, long rows, long column, Vec v) {
  T one_by_one[kLanes];
  Store(one_by_one, v);
  for (long r = 0; r < Smaller(rows, kRows); ++r) z[r][column] = one_by_one[r];
}

template <class Mode, int kTiles, int kColumns>
void ForwardColumns(const PointwiseForward<typename Mode::Plane>& p, const float* a, const float* y, long ld, long depth,
                    long row, long row_end, long column) {
  Vec c[kTiles][kColumns];
  ColumnTiles<Mode::kPairs>(depth, a, y, ld, c);
  for (int t = 0; t < kTiles; ++t)
    for (int e = 0; e < kColumns; ++e)
      StoreColumn(p.z + row + t * kRows, row_end - row - t * kRows, column + e, c[t][e]);
}

template <class Mode, int kMore>
RIFFLE_INLINE void ForwardNarrow(const PointwiseForward<typename Mode::Plane>& p, const float* a, const float* y, long ld,
                                 long depth, long row, long row_end, long column) {
  Vec c[2][kRows], more[2][kMore + 1];
  NarrowTiles<Mode::kPairs, kMore>(depth, a, y, ld, c, more);
  const long both = Smaller(2 * kRows, row_end - row);
#pragma GCC unroll 32
  for (int r = 0; r < 2 * kRows; ++r) {
    if (r >= both) break;
    Store(p.z[row + r] + column, c[r / kRows][r % kRows]);
  }
  for (int t = 0; t < 2; ++t)
    for (int e = 0; e < kMore; ++e)
      StoreColumn(p.z + row + t * kRows, row_end - row - t * kRows, column + kLanes + e, more[t][e]);
}

// The last panel's columns of this row tile, and of those below that belong to it; false where they are made as usual.
template <class Mode>
__attribute__((noinline)) bool ForwardLastPanel(const PointwiseForward<typename Mode::Plane>& p, const LastPanel& panel, const Block& block,
                                    const float* a, const float* y, long ld, long depth, long row_begin, long row, long row_end) {
  const long tile = (row - row_begin) / kRows, left = (row_end - row + kRows - 1) / kRows;
  const long column = block.begin + panel.begin;
  if (panel.vector) {
    if (tile % 2 == 1) return true;  // made with the tile above
    if (left < 2) return false;
    if (panel.columns == 0) ForwardNarrow<Mode, 0>(p, a, y, ld, depth, row, row_end, column);
    if constexpr (kFewColumns > 0)
      if (panel.columns == 1) ForwardNarrow<Mode, 1>(p, a, y, ld, depth, row, row_end, column);
    return true;
  }
  if constexpr (kFewColumns > 0) {
    constexpr int kTogether = 4;  // chains of multiply-adds enough for one column
    const long above = tile % kTogether, run = Smaller(left + above, kTogether);
    if (run == kTogether) {
      if (above > 0) return true;
      switch (panel.columns) {
        case 1: ForwardColumns<Mode, 4, 1>(p, a, y, ld, depth, row, row_end, column); return true;
        case 2: ForwardColumns<Mode, 4, 2>(p, a, y, ld, depth, row, row_end, column); return true;
        case 3: ForwardColumns<Mode, 4, 3>(p, a, y, ld, depth, row, row_end, column); return true;
        default: ForwardColumns<Mode, 4, 4>(p, a, y, ld, depth, row, row_end, column); return true;
      }
    }
    switch (panel.columns) {
      case 1: ForwardColumns<Mode, 1, 1>(p, a, y, ld, depth, row, row_end, column); return true;
      case 2: ForwardColumns<Mode, 1, 2>(p, a, y, ld, depth, row, row_end, column); return true;
      case 3: ForwardColumns<Mode, 1, 3>(p, a, y, ld, depth, row, row_end, column); return true;
      default: ForwardColumns<Mode, 1, 4>(p, a, y, ld, depth, row, row_end, column); return true;
    }
  }
  return false;
}

}  // namespace
}  // namespace riffle::RIFFLE_ISA

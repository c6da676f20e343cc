// One instruction set's kernels, compiled as a single unit into a namespace of their own.
#include "kernels.h"

#include "depthwise.cc"
#include "head.cc"
#include "pointwise.cc"
#include "stem.cc"
#include "update.cc"

namespace riffle {

const KernelTable* RIFFLE_TABLE() {
  using namespace RIFFLE_ISA;
  static const KernelTable table = {
      .name = RIFFLE_NAME,
      .lanes = kLanes,
      .tile_rows = kRows,
      .pack_weights = PackWeights,
      .pointwise_forward = PointwiseForwardTask,
      .pointwise_forward_scratch = PointwiseForwardScratch,
      .pointwise_backward = PointwiseBackwardTask,
      .pointwise_backward_scratch = PointwiseBackwardScratch,
      .dw_rows = DwRows,
      .dw_columns = DwColumns,
      .depthwise_forward = DepthwiseForwardTask,
      .depthwise_backward = DepthwiseBackwardTask,
      .depthwise_scratch = DepthwiseScratch,
      .stem_statistics = StemStatisticsTask,
      .stem_forward = StemForwardTask,
      .stem_backward = StemBackwardTask,
      .stem_scratch = StemScratch,
      .global_average = GlobalAverageTask,
      .global_average_backward = GlobalAverageBackwardTask,
      .matrix_product_transposed = MatrixProductTransposedRows,
      .matrix_product = MatrixProductTiles,
      .update = UpdateRange,
      .sum_parts = SumParts,
      .sum_of_squares = SumOfSquares,
      .all_finite = AllFinite,
      .multiply_add_burst = MultiplyAddBurst,
  };
  return &table;
}

}  // namespace riffle

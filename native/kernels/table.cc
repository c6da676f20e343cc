// One instruction set's kernels, compiled as a single unit into a namespace of their own.
#include "kernels.h"

#include "depthwise_backward.cc"
#include "depthwise_forward.cc"
#include "head.cc"
#include "pointwise_backward.cc"
#include "pointwise_forward.cc"
#include "stem.cc"
#include "update.cc"

namespace riffle {

namespace RIFFLE_ISA {

template <class Mode>
constexpr PlaneKernels<typename Mode::Plane> KernelsOf() {
  using T = typename Mode::Plane;
  return {.pack_weights = PackWeights<Mode>,
          .packed_size = PackedSize<Mode>,
          .pointwise_forward = PointwiseForwardTask<Mode>,
          .pointwise_forward_scratch = PointwiseForwardScratch<Mode>,
          .pointwise_backward = PointwiseBackwardTask<Mode>,
          .pointwise_backward_scratch = PointwiseBackwardScratch<Mode>,
          .depthwise_forward = DepthwiseForwardTask<T>,
          .depthwise_backward = DepthwiseBackwardTask<T>,
          .stem_forward = StemForwardTask<T>,
          .stem_backward = StemBackwardTask<T>,
          .global_average = GlobalAverageTask<T>,
          .global_average_backward = GlobalAverageBackwardTask<T>,
          .product_burst = ProductBurst<Mode>};
}

}  // namespace RIFFLE_ISA

#if defined(RIFFLE_DOT_TABLE)

const PlaneKernels<Bf16>* RIFFLE_DOT_TABLE() {
  static const PlaneKernels<Bf16> kernels = RIFFLE_ISA::KernelsOf<RIFFLE_ISA::Pairs>();
  return &kernels;
}

#else

const KernelTable* RIFFLE_TABLE() {
  using namespace RIFFLE_ISA;
  static const KernelTable table = {
      .name = RIFFLE_NAME,
      .lanes = kLanes,
      .tile_rows = kRows,
      .dw_rows = DwRows,
      .dw_columns = DwColumns,
      .depthwise_scratch = DepthwiseScratch,
      .stem_statistics = StemStatisticsTask,
      .stem_scratch = StemScratch,
      .f32 = KernelsOf<Floats>(),
#if defined(RIFFLE_F32_ONLY)
      .bf16 = {},
#else
      .bf16 = KernelsOf<Unpacked>(),
#endif
      .matrix_product_transposed = MatrixProductTransposedRows,
      .matrix_product = MatrixProductTiles,
      .update = UpdateRange,
      .sum_parts = SumParts,
      .sum_of_squares = SumOfSquares,
      .all_finite = AllFinite,
  };
  return &table;
}

#endif

}  // namespace riffle

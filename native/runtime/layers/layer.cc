#include "layer.h"

#include <iterator>

#include "depthwise.h"
#include "head.h"
#include "pointwise.h"
#include "stem.h"

namespace riffle {
namespace {

// In StepKind's order.
constexpr LayerRow kRows[] = {kStemRow, kPointwiseRow, kDepthwiseRow, kHeadRow};
static_assert(std::size(kRows) == kStepKinds, "every StepKind has a row");

}  // namespace

const LayerRow& RowOf(StepKind kind) { return kRows[static_cast<int>(kind)]; }

}  // namespace riffle

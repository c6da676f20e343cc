#include "pointwise.h"

#include <algorithm>

namespace riffle {
namespace {

// Groups of blocks that share a filter-gradient sum: enough to keep many threads busy, few enough that adding the
// groups' sums stays small beside making them (a group of 800 columns spends a few percent on it).
long MostGroups(long columns) { return std::clamp(columns / 800, 8L, 16L); }

// Columns of one block: a multiple of the register tile's, decided by shape alone. Wide
// blocks add their filter sums up less often; but a block's rows of dz and y should stay in the second-level
// cache (half a megabyte is common), and there should be enough blocks, of even number, for threads to end together.
long BlockColumns(long columns, long inputs, long outputs, int lanes, bool training) {
  const long rows = training ? inputs + outputs : inputs;
  const long widest = std::clamp(96 * 1024 / rows, 128L, 512L);
  const long tile = std::max(16, 2 * lanes);  // blocks begin on lines of 16 floats
  long best = tile;
  double least = 1e300;
  for (long width = tile; width <= widest; width += tile) {
    const long blocks = (columns + width - 1) / width;
    const long tasks = training ? std::min(blocks, MostGroups(columns)) : blocks;
    const long task_columns = (blocks + tasks - 1) / tasks * width;
    double share = 0;  // how much longer than evenly divided the work takes
    for (const long threads : {2, 4, 8})
      share += static_cast<double>((tasks + threads - 1) / threads * threads * task_columns) / static_cast<double>(columns);
    // About 28 columns' worth of time goes into ending a filter tile.
    const double cost = share * (1.0 + 28.0 / static_cast<double>(width));
    if (cost < least) {
      least = cost;
      best = width;
    }
  }
  return best;
}

template <class T>
class Pointwise : public Layer {
 public:
  Pointwise(Workspace& workspace, const StepInfo& step, Needs& needs)
      : Layer(workspace, step),
        inputs_(static_cast<int>(step.inputs.size())),
        outputs_(step.count),
        columns_(ws_.norm.count(step.first)) {
    const KernelTable& k = ws_.kernels;
    const PlaneKernels<T>& planes = ws_.planes<T>();
    const bool training = s_.trains;
    block_columns_ = s_.cut.block_columns ? s_.cut.block_columns : BlockColumns(columns_, inputs_, outputs_, k.lanes, training);
    blocks_ = (columns_ + block_columns_ - 1) / block_columns_;
    groups_ = static_cast<int>(std::min(blocks_, MostGroups(columns_)));
    // In training planes come from memory: neighbouring blocks are one task, so that the next is brought closer meanwhile.
    runs_ = s_.cut.runs ? s_.cut.runs : training ? groups_ : blocks_;
    // With few columns, threads share a block's rows; each normalises the block for itself.
    const long tiles = (outputs_ + k.tile_rows - 1) / k.tile_rows;
    row_parts_ = training ? 1 : static_cast<int>(std::min(s_.cut.row_parts ? s_.cut.row_parts : std::max(4 / blocks_, 1L), tiles));
    packed_ = needs.Packed(planes.packed_size(outputs_, inputs_));
    needs.Scratch(planes.pointwise_forward_scratch(inputs_, outputs_, block_columns_));
    needs.Partials(2 * blocks_ * std::max(inputs_, outputs_));
    if (!training) return;
    if (ws_.PassesGradients(s_)) packed_transposed_ = needs.Packed(planes.packed_size(inputs_, outputs_));
    needs.Scratch(planes.pointwise_backward_scratch(inputs_, outputs_, block_columns_));
    needs.Filters(static_cast<size_t>(groups_) * k.dw_rows(outputs_) * k.dw_columns(inputs_));
  }

  void Pack(const float* parameters, bool backward) override {
    const float* weights = parameters + s_.weights;
    if (backward && !ws_.PassesGradients(s_)) return;
    if (backward) {
      ws_.planes<T>().pack_weights(weights, inputs_, outputs_, 1, inputs_, ws_.packed() + packed_transposed_);
    } else {
      ws_.planes<T>().pack_weights(weights, outputs_, inputs_, inputs_, 1, ws_.packed() + packed_);
    }
  }

  void Forward(const Weights& w) override {
    float* sums = s_.trains ? ws_.partials() : nullptr;
    const PointwiseForward<T> work = {.columns = columns_,
                                   .inputs = inputs_,
                                   .outputs = outputs_,
                                   .x = ws_.Inputs<T>(s_),
                                   .z = ws_.Outputs<T>(s_),
                                   .weights = ws_.packed() + packed_,
                                   .sums = sums,
                                   .block_columns = block_columns_,
                                   .runs = runs_,
                                   .row_parts = row_parts_};
    ws_.pool.Run(runs_ * row_parts_,
                 [&](long t, int thread) { ws_.planes<T>().pointwise_forward(work, t, ws_.scratch(thread)); });
    if (!sums) return;
    for (int i = 0; i < outputs_; ++i) {
      double sum = 0, squares = 0;
      for (long b = 0; b < blocks_; ++b) {
        sum += sums[b * 2 * outputs_ + i];
        squares += sums[b * 2 * outputs_ + outputs_ + i];
      }
      ws_.norm.SetSums(s_.first + i, sum, squares);
    }
    ws_.norm.NormaliseByBatch(s_.first, outputs_, w.parameters);
  }

  void Backward(const Weights& w) override {
    const float* partials = ws_.partials();
    const PointwiseBackward<T> work = {.columns = columns_,
                                    .inputs = inputs_,
                                    .outputs = outputs_,
                                    .x = ws_.Inputs<T>(s_),
                                    .dz = ws_.OutputGradients<T>(s_, w),
                                    .gx = ws_.InputGradients<T>(s_),
                                    .weights = ws_.packed() + packed_transposed_,
                                    .sums = ws_.partials(),
                                    .dw = ws_.filters(),
                                    .block_columns = block_columns_,
                                    .groups = groups_};
    ws_.pool.Run(groups_, [&](long t, int thread) { ws_.planes<T>().pointwise_backward(work, t, ws_.scratch(thread)); });
    for (int i = 0; i < inputs_; ++i) {
      if (!ws_.HasGradient(s_.inputs[i])) continue;
      double sum = 0, dot = 0;
      for (long b = 0; b < blocks_; ++b) {
        sum += partials[b * 2 * inputs_ + i];
        dot += partials[b * 2 * inputs_ + inputs_ + i];
      }
      ws_.norm.SetGradientSums(s_.inputs[i], sum, dot);
    }
    const long rows = ws_.kernels.dw_rows(outputs_), columns = ws_.kernels.dw_columns(inputs_);
    ws_.pool.Run((outputs_ + 15) / 16, [&](long t, int) {
      for (long o = t * 16; o < std::min<long>(t * 16 + 16, outputs_); ++o)
        ws_.kernels.sum_parts(ws_.filters() + o * columns, groups_, rows * columns, 0, inputs_,
                              w.gradients + s_.weights + o * inputs_);
    });
  }

 private:
  const int inputs_, outputs_;
  const long columns_;
  long block_columns_ = 0, blocks_ = 0, runs_ = 0;
  int groups_ = 0, row_parts_ = 1;
  size_t packed_ = 0, packed_transposed_ = 0;
};

}  // namespace

void ReadPointwise(Words&, const ProgramInfo& p, StepInfo& s) {
  Expect(!s.inputs.empty() && s.count > 0, "a pointwise step has inputs and outputs");
  const PlaneInfo& output = p.planes[s.first];
  ExpectInputSize(p, s, output.height, output.width);
  ExpectOutputSize(p, s, output.height, output.width);
  ExpectWeights(p, s, static_cast<long>(s.count) * static_cast<long>(s.inputs.size()));
}

std::unique_ptr<Layer> MakePointwise(Workspace& workspace, const StepInfo& step, Needs& needs) {
  return Stored<Pointwise>(workspace, step, needs);
}

}  // namespace riffle

#include "depthwise.h"

#include <algorithm>

namespace riffle {
namespace {

template <class T>
class Depthwise : public Layer {
 public:
  Depthwise(Workspace& workspace, const StepInfo& step, Needs& needs)
      : Layer(workspace, step),
        // Their sums are added in f32: about a thousand values a lane sum at most.
        images_per_sum_(static_cast<int>(
            std::clamp(1024L / (static_cast<long>(s_.window.in_h) * s_.window.in_w), 1L, static_cast<long>(ws_.program.batch)))),
        groups_((ws_.program.batch + images_per_sum_ - 1) / images_per_sum_) {
    // One where a plane is worth fetching a task for, some where it is a microsecond.
    constexpr long kWorthATask = 8192;  // values
    const long values = static_cast<long>(ws_.program.batch) * s_.window.out_h * s_.window.out_w;
    runs_ = s_.cut.runs ? s_.cut.runs : values >= kWorthATask ? s_.count : RunsOf(std::max(1, s_.count / 8));
    needs.Scratch(ws_.kernels.depthwise_scratch(s_.window));
    needs.Partials(2L * s_.count * ws_.program.batch);
    needs.Filters(9L * s_.count * ws_.program.batch);
  }

  void Forward(const Weights& w) override {
    float* sums = s_.trains ? ws_.partials() : nullptr;
    const DepthwiseForward<T> work = {.images = ws_.program.batch,
                                   .window = s_.window,
                                   .x = ws_.Inputs<T>(s_),
                                   .z = ws_.Outputs<T>(s_),
                                   .weights = w.parameters + s_.weights,
                                   .group = images_per_sum_,
                                   .sums = sums};
    ws_.pool.Run(runs_, [&](long t, int thread) {
      ws_.planes<T>().depthwise_forward(work, t * s_.count / runs_, (t + 1) * s_.count / runs_, ws_.scratch(thread));
    });
    if (!sums) return;
    for (int i = 0; i < s_.count; ++i) {
      double sum = 0, squares = 0;
      for (long g = 0; g < groups_; ++g) {
        sum += sums[(i * groups_ + g) * 2];
        squares += sums[(i * groups_ + g) * 2 + 1];
      }
      ws_.norm.SetSums(s_.first + i, sum, squares);
    }
    ws_.norm.NormaliseByBatch(s_.first, s_.count, w.parameters);
  }

  void Backward(const Weights& w) override {
    const DepthwiseBackward<T> work = {.images = ws_.program.batch,
                                    .window = s_.window,
                                    .x = ws_.Inputs<T>(s_),
                                    .dz = ws_.OutputGradients<T>(s_, w),
                                    .gx = ws_.InputGradients<T>(s_),
                                    .weights = w.parameters + s_.weights,
                                    .group = images_per_sum_,
                                    .sums = ws_.partials(),
                                    .dw = ws_.filters()};
    ws_.pool.Run(s_.count, [&](long t, int thread) { ws_.planes<T>().depthwise_backward(work, t, ws_.scratch(thread)); });
    ws_.SumInputGradients(s_, groups_);
    for (int i = 0; i < s_.count; ++i)
      for (int tap = 0; tap < 9; ++tap) {
        double sum = 0;
        for (long g = 0; g < groups_; ++g) sum += ws_.filters()[(i * groups_ + g) * 9 + tap];
        w.gradients[s_.weights + i * 9L + tap] = static_cast<float>(sum);
      }
  }

 private:
  long RunsOf(long planes) const { return (s_.count + planes - 1) / planes; }

  const int images_per_sum_;
  const long groups_;
  long runs_ = 1;  // of neighbouring planes, each a task
};

}  // namespace

void ReadDepthwise(Words& words, const ProgramInfo& p, StepInfo& s) {
  s.window = words.Window();
  Expect(s.count == static_cast<long>(s.inputs.size()) && s.count > 0,
         "a depthwise step has as many outputs as inputs");
  ExpectInputSize(p, s, s.window.in_h, s.window.in_w);
  ExpectOutputSize(p, s, s.window.out_h, s.window.out_w);
  ExpectWeights(p, s, 9L * s.count);
}

std::unique_ptr<Layer> MakeDepthwise(Workspace& workspace, const StepInfo& step, Needs& needs) {
  return Stored<Depthwise>(workspace, step, needs);
}

}  // namespace riffle

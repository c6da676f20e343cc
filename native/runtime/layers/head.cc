#include "head.h"

#include <algorithm>
#include <vector>

namespace riffle {
namespace {

template <class T>
class Head : public Layer {
 public:
  Head(Workspace& workspace, const StepInfo& step, Needs& needs)
      : Layer(workspace, step), count_(static_cast<long>(step.inputs.size())) {
    const int batch = ws_.program.batch, classes = ws_.program.classes;
    features_.assign(static_cast<size_t>(batch) * count_, 0);
    if (!ws_.program.training) return;
    needs.Partials(2L * count_ * batch);
    dfeatures_.assign(features_.size(), 0);
    packed_dlogits_.assign(ws_.kernels.f32.packed_size(batch, classes), 0);
    packed_dlogits_transposed_.assign(ws_.kernels.f32.packed_size(classes, batch), 0);
  }

  void Forward(const Weights& w) override {
    const long batch = ws_.program.batch, classes = ws_.program.classes;
    const GlobalAverage<T> average = {.images = ws_.program.batch,
                                   .pixels = Pixels(),
                                   .x = ws_.Inputs<T>(s_),
                                   .features = features_.data(),
                                   .stride = count_};
    EachFeature([&](long i) { ws_.planes<T>().global_average(average, i); });
    DropOut(features_);
    const MatrixProductTransposed product = {.rows = batch,
                                             .columns = classes,
                                             .depth = count_,
                                             .a = features_.data(),
                                             .lda = count_,
                                             .b = w.parameters + s_.weights,
                                             .ldb = count_,
                                             .c = ws_.logits.data(),
                                             .ldc = classes};
    // Whole register tiles of rows (6 at the widest) and, with few rows, of classes.
    const long row_tasks = (batch + 5) / 6;
    const long parts = row_tasks >= 8 ? 1 : std::min<long>(8, (classes + 63) / 64);
    const long part = RoundUp((classes + parts - 1) / parts, 4);
    ws_.pool.Run(row_tasks * parts, [&](long t, int) {
      MatrixProductTransposed piece = product;
      const long begin = t % parts * part;
      if (begin >= classes) return;
      piece.columns = std::min(part, classes - begin);
      piece.b += begin * count_;
      piece.c += begin;
      ws_.kernels.matrix_product_transposed(piece, t / parts * 6, std::min<long>(t / parts * 6 + 6, batch));
    });
    if (s_.bias >= 0)
      for (long n = 0; n < batch; ++n)
        for (long c = 0; c < classes; ++c) ws_.logits[n * classes + c] += w.parameters[s_.bias + c];
  }

  // From dlogits.
  void Backward(const Weights& w) override {
    const long batch = ws_.program.batch, classes = ws_.program.classes, tile = ws_.kernels.tile_rows;
    const float* dlogits = ws_.dlogits.data();
    if (s_.bias >= 0)
      for (long c = 0; c < classes; ++c) {
        double sum = 0;
        for (long n = 0; n < batch; ++n) sum += dlogits[n * classes + c];
        w.gradients[s_.bias + c] = static_cast<float>(sum);
      }
    ws_.kernels.f32.pack_weights(dlogits, classes, batch, 1, classes, packed_dlogits_transposed_.data());
    ws_.kernels.f32.pack_weights(dlogits, batch, classes, classes, 1, packed_dlogits_.data());
    const MatrixProduct dw = {.rows = classes,
                              .columns = count_,
                              .depth = batch,
                              .a = packed_dlogits_transposed_.data(),
                              .b = features_.data(),
                              .ldb = count_,
                              .c = w.gradients + s_.weights,
                              .ldc = count_};
    ws_.pool.Run((classes + tile - 1) / tile, [&](long t, int) { ws_.kernels.matrix_product(dw, t, t + 1); });
    if (!ws_.PassesGradients(s_)) return;
    const MatrixProduct dfeatures = {.rows = batch,
                                     .columns = count_,
                                     .depth = classes,
                                     .a = packed_dlogits_.data(),
                                     .b = w.parameters + s_.weights,
                                     .ldb = count_,
                                     .c = dfeatures_.data(),
                                     .ldc = count_};
    ws_.pool.Run((batch + tile - 1) / tile, [&](long t, int) { ws_.kernels.matrix_product(dfeatures, t, t + 1); });
    DropOut(dfeatures_);

    std::vector<T*> gradients;
    for (int i : s_.inputs) gradients.push_back(ws_.plane<T>(i, true));
    const GlobalAverageBackward<T> average = {.images = ws_.program.batch,
                                           .pixels = Pixels(),
                                           .x = ws_.Inputs<T>(s_),
                                           .g = gradients.data(),
                                           .gradient = dfeatures_.data(),
                                           .stride = count_,
                                           .sums = ws_.partials()};
    EachFeature([&](long i) {
      if (gradients[i]) ws_.planes<T>().global_average_backward(average, i);
    });
    ws_.SumInputGradients(s_, batch);
  }

 private:
  long Pixels() const {
    const PlaneInfo& plane = ws_.program.planes[s_.inputs[0]];
    return plane.height * plane.width;
  }

  template <class Body>
  void EachFeature(const Body& body) {
    ws_.pool.Run((count_ + 7) / 8, [&](long t, int) {
      for (long i = t * 8; i < std::min(t * 8 + 8, count_); ++i) body(i);
    });
  }

  void DropOut(std::vector<float>& features) const {
    if (!ws_.dropout_mask) return;
    for (size_t i = 0; i < features.size(); ++i) features[i] *= ws_.dropout_mask[i];
  }

  const long count_;  // features
  std::vector<float> features_, dfeatures_;  // [batch, features]
  std::vector<float> packed_dlogits_, packed_dlogits_transposed_;
};

}  // namespace

void ReadHead(Words&, const ProgramInfo& p, StepInfo& s) {
  Expect(!s.inputs.empty() && s.count == 0, "the head has inputs only");
  const PlaneInfo& input = p.planes[s.inputs[0]];
  ExpectInputSize(p, s, input.height, input.width);
  ExpectWeights(p, s, static_cast<long>(p.classes) * static_cast<long>(s.inputs.size()));
  Expect(s.bias < 0 || s.bias + p.classes <= p.parameter_count, "the bias reaches past the parameters");
}

std::unique_ptr<Layer> MakeHead(Workspace& workspace, const StepInfo& step, Needs& needs) {
  return Stored<Head>(workspace, step, needs);
}

}  // namespace riffle

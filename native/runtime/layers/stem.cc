#include "stem.h"

#include <algorithm>
#include <cmath>
#include <vector>

namespace riffle {
namespace {

constexpr int kTaps = kStemPatch * kStemPatchPadded;  // of filters tap by tap: [27][32]

template <class T>
class StemLayer : public Layer {
 public:
  StemLayer(Workspace& workspace, const StepInfo& step, Needs& needs)
      : Layer(workspace, step), weights_(kTaps, 0), signed_weights_(kTaps, 0), gram_(kTaps, 0) {
    const size_t batch = ws_.program.batch;
    needs.Scratch(ws_.kernels.stem_scratch(Description(weights_)));
    // Statistics are the whole convolution's, not those of the pooling's winners.
    for (int c = s_.first; c < s_.first + s_.count; ++c)
      ws_.norm.set_count(c, static_cast<long>(batch) * s_.window.out_h * s_.window.out_w);
    if (!s_.trains) return;
    winners_.assign(batch * s_.pooling.out_h * s_.pooling.out_w * kStemPatchPadded, 0);
    image_grams_.assign(batch * kTaps, 0);
    needs.Filters(batch * kStemPatchPadded * kStemPatchPadded);
  }

  void Forward(const Weights& w) override {
    TakeWeights(w.parameters);
    if (s_.trains) TakeStatistics(w.parameters);
    float sign[kStemPatchPadded] = {};
    for (int o = 0; o < s_.count; ++o) sign[o] = ws_.norm.scale(s_.first + o) < 0 ? -1.0f : 1.0f;
    for (int tap = 0; tap < kStemPatch; ++tap)
      for (int o = 0; o < kStemPatchPadded; ++o)
        signed_weights_[tap * kStemPatchPadded + o] = weights_[tap * kStemPatchPadded + o] * sign[o];
    const int batch = ws_.program.batch;
    // A part computes a row of the convolution that the part before it has computed too.
    const int parts = batch >= 8 || ws_.pool.threads() == 1 ? 1 : std::min(8 / batch, s_.pooling.out_h);
    const StemForward<T> work = {.stem = Description(signed_weights_),
                              .sign = sign,
                              .z = ws_.Outputs<T>(s_),
                              .winners = s_.trains ? winners_.data() : nullptr,
                              .parts = parts};
    ws_.pool.Run(static_cast<long>(batch) * work.parts,
                 [&](long t, int thread) { ws_.planes<T>().stem_forward(work, t, ws_.scratch(thread)); });
  }

  void Backward(const Weights& w) override {
    const std::vector<BatchNorm::Coefficients>& dz = ws_.norm.OutputGradients(s_, w);
    std::vector<const T*> gradients;
    for (int o = 0; o < s_.count; ++o) gradients.push_back(ws_.plane<T>(s_.first + o, true));
    const StemBackward<T> work = {
        .stem = Description(weights_), .g = gradients.data(), .winners = winners_.data(), .dw = ws_.filters()};
    ws_.pool.Run(ws_.program.batch, [&](long t, int thread) { ws_.planes<T>().stem_backward(work, t, ws_.scratch(thread)); });
    // dW = a * (sum over winners) + b * W G + c * s. The numbers a, b, c are wanted in full here: the two large
    // terms cancel in part.
    for (int o = 0; o < s_.count; ++o) {
      const auto [a, b, c] = dz[o];
      for (int tap = 0; tap < kStemPatch; ++tap) {
        double winners = 0, product = 0;
        for (long image = 0; image < ws_.program.batch; ++image)
          winners += ws_.filters()[(image * kStemPatchPadded + o) * kStemPatchPadded + tap];
        for (int j = 0; j < kStemPatch; ++j)
          product += weights_[j * kStemPatchPadded + o] * gram_[j * kStemPatchPadded + tap];
        const int image_channel = tap % 3;
        const int channel =
            static_cast<int>(std::find(s_.channel_order, s_.channel_order + 3, image_channel) - s_.channel_order);
        w.gradients[s_.weights + (o * 3 + channel) * 9 + tap / 3] =
            static_cast<float>(a * winners + b * product + c * PatchSum(tap));
      }
    }
  }

 private:
  Stem Description(const std::vector<float>& weights) const {
    Stem stem = {.images = ws_.program.batch,
                 .conv = s_.window,
                 .pool = s_.pooling,
                 .channels = s_.count,
                 .pixels = ws_.images,
                 .input_scale = {},
                 .input_shift = {},
                 .weights = weights.data()};
    std::copy_n(s_.input_scale, 3, stem.input_scale);
    std::copy_n(s_.input_shift, 3, stem.input_shift);
    return stem;
  }

  // The kernel reads pixels as they lie; the network's channel i is the image's channel_order[i].
  void TakeWeights(const float* parameters) {
    for (int o = 0; o < s_.count; ++o)
      for (int i = 0; i < 3; ++i)
        for (int k = 0; k < 9; ++k)
          weights_[(k * 3 + s_.channel_order[i]) * kStemPatchPadded + o] = parameters[s_.weights + (o * 3 + i) * 9 + k];
  }

  // Sum and sum of squares of every output, from the patches' sums and products alone.
  void TakeStatistics(const float* parameters) {
    double* grams = image_grams_.data();
    const StemStatistics work = {.stem = Description(weights_), .gram = grams};
    ws_.pool.Run(ws_.program.batch,
                 [&](long t, int thread) { ws_.kernels.stem_statistics(work, t, ws_.scratch(thread)); });
    std::fill(gram_.begin(), gram_.end(), 0.0);
    for (long n = 0; n < ws_.program.batch; ++n)
      for (int i = 0; i < kTaps; ++i) gram_[i] += grams[n * kTaps + i];
    for (int i = 0; i < kStemPatch; ++i)  // the kernel makes the upper triangle
      for (int j = 0; j < i; ++j) gram_[i * kStemPatchPadded + j] = gram_[j * kStemPatchPadded + i];
    for (int o = 0; o < s_.count; ++o) {
      double sum = 0, squares = 0;
      for (int i = 0; i < kStemPatch; ++i) {
        const double wi = weights_[i * kStemPatchPadded + o];
        sum += wi * PatchSum(i);
        for (int j = 0; j < kStemPatch; ++j)
          squares += wi * weights_[j * kStemPatchPadded + o] * gram_[i * kStemPatchPadded + j];
      }
      ws_.norm.SetSums(s_.first + o, sum, squares);
    }
    ws_.norm.NormaliseByBatch(s_.first, s_.count, parameters);
  }

  double PatchSum(int tap) const { return gram_[tap * kStemPatchPadded + kStemPatch]; }

  std::vector<float> weights_, signed_weights_;
  std::vector<uint8_t> winners_;
  std::vector<double> gram_;         // of the batch: products of taps; column 27 the sum of the patches
  std::vector<double> image_grams_;  // [batch] of the same
};

}  // namespace

void ReadStem(Words& words, const ProgramInfo& p, StepInfo& s) {
  s.window = words.Window();
  s.pooling = words.Window();
  for (int& c : s.channel_order) c = static_cast<int>(words.Whole("channel order", 0, 2));
  for (float& v : s.input_scale) v = static_cast<float>(words.Number("input scale"));
  for (float& v : s.input_shift) v = static_cast<float>(words.Number("input shift"));
  Expect(s.inputs.empty() && s.count >= 1 && s.count <= kStemMaxChannels, "the stem has 1 to 32 channels");
  Expect(s.window.stride == 2 && s.pooling.stride == 2, "the stem's strides are 2");
  Expect(s.window.in_h == p.image_size && s.window.in_w == p.image_size, "the stem reads the image");
  Expect(s.pooling.in_h == s.window.out_h && s.pooling.in_w == s.window.out_w, "pooling reads the convolution");
  const int* o = s.channel_order;
  Expect(o[0] != o[1] && o[0] != o[2] && o[1] != o[2], "channel order is a permutation");
  ExpectOutputSize(p, s, s.pooling.out_h, s.pooling.out_w);
  ExpectWeights(p, s, kStemPatch * static_cast<long>(s.count));
}

std::unique_ptr<Layer> MakeStem(Workspace& workspace, const StepInfo& step, Needs& needs) {
  return Stored<StemLayer>(workspace, step, needs);
}

}  // namespace riffle

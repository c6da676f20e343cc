// The stem against its definition in f64. Bytes, filters and gradients are small fractions, so every convolution
// value is exact in f32: which place wins a pooling window, ties included, is decided the same way in both.
#include <algorithm>

#include "check.h"

namespace riffle::test {
namespace {

struct Case {
  int images, channels;
  Window conv, pool;

  long pixels() const { return static_cast<long>(pool.out_h) * pool.out_w; }
};

Window Half(int h, int w, int pad_top, int pad_left) {
  return {.in_h = h, .in_w = w, .out_h = (h + 1) / 2, .out_w = (w + 1) / 2, .stride = 2, .pad_top = pad_top, .pad_left = pad_left};
}

std::vector<Case> Cases() {
  std::vector<Case> cases;
  const int channels[] = {24, 1, 8, 16, 17, 25, 32};
  int n = 0;
  for (int h : {1, 2, 3, 7, 8, 10, 31, 32, 33, 45})
    for (int w : {1, 3, 4, 9, 16, 22, 32, 33, 45})
      for (int pad = 0; pad <= 1; ++pad) {
        // Padding before: torchvision's 1 everywhere, or TensorFlow's, none on even sizes.
        const Window conv = Half(h, w, pad | h % 2, pad | w % 2);
        const Window pool = Half(conv.out_h, conv.out_w, pad | conv.out_h % 2, pad | conv.out_w % 2);
        cases.push_back({1 + n % 2, channels[n % 7], conv, pool});
        ++n;
      }
  return cases;
}

// One case's numbers, and what the definition makes of them.
class Twin {
 public:
  Twin(const Case& c, uint32_t seed, Memory& memory) : case_(c) {
    Numbers numbers(seed);
    const bool flat = seed % 5 == 0;  // a picture of one colour: every interior window is a tie
    for (long i = 0; i < 3L * c.images * c.conv.in_h * c.conv.in_w; ++i)
      bytes_.push_back(static_cast<uint8_t>(flat ? 40 * (i % 3) : numbers.Below(256)));
    filters_.assign(kStemPatch * kStemPatchPadded, 0.0f);
    for (int tap = 0; tap < kStemPatch; ++tap)
      for (int channel = 0; channel < c.channels; ++channel)
        filters_[tap * kStemPatchPadded + channel] = numbers.Fraction(8, 1);
    stem = {.images = c.images,
            .conv = c.conv,
            .pool = c.pool,
            .channels = c.channels,
            .pixels = memory.Input(bytes_),
            .input_scale = {1.0f / 64, 1.0f / 128, 1.0f / 128},
            .input_shift = {-2, -1, -0.5},
            .weights = memory.Input(filters_)};
  }

  // The stem with its filters multiplied by the sign of each channel's scale.
  Stem Signed(const std::vector<float>& sign, Memory& memory) const {
    std::vector<float> filters = filters_;
    for (size_t i = 0; i < filters.size(); ++i) filters[i] *= sign[i % kStemPatchPadded];
    Stem with_signs = stem;
    with_signs.weights = memory.Input(filters);
    return with_signs;
  }

  // The input under tap `tap` of the convolution window at (y, x); 0 in the padding.
  double Patch(int image, int y, int x, int tap) const {
    const Window& w = case_.conv;
    const int iy = 2 * y + tap / 9 - w.pad_top, ix = 2 * x + tap / 3 % 3 - w.pad_left, channel = tap % 3;
    if (iy < 0 || iy >= w.in_h || ix < 0 || ix >= w.in_w) return 0;
    const long at = ((static_cast<long>(image) * w.in_h + iy) * w.in_w + ix) * 3 + channel;
    return static_cast<double>(stem.input_scale[channel]) * bytes_[at] + stem.input_shift[channel];
  }

  double Convolution(int image, int y, int x, int channel) const {
    double z = 0;
    for (int tap = 0; tap < kStemPatch; ++tap) z += filters_[tap * kStemPatchPadded + channel] * Patch(image, y, x, tap);
    return z;
  }

  // Convolution values of one image, [out_h][out_w][channels].
  std::vector<double> Map(int image) const {
    std::vector<double> map;
    for (int y = 0; y < case_.conv.out_h; ++y)
      for (int x = 0; x < case_.conv.out_w; ++x)
        for (int channel = 0; channel < case_.channels; ++channel) map.push_back(Convolution(image, y, x, channel));
    return map;
  }

  Stem stem;

 private:
  const Case& case_;
  std::vector<uint8_t> bytes_;
  std::vector<float> filters_;
};

void Describe(Test& test, const Case& c) {
  test.Case("%d images of %dx%d, %d channels, padding %d %d and %d %d", c.images, c.conv.in_h, c.conv.in_w, c.channels,
            c.conv.pad_top, c.conv.pad_left, c.pool.pad_top, c.pool.pad_left);
}

void TestStatistics(const KernelTable& k) {
  Test test(k.name, "stem_statistics");
  uint32_t seed = 1;
  for (const Case& c : Thinned(Cases())) {
    Describe(test, c);
    Memory memory;
    const Twin twin(c, seed++, memory);
    double* gram = memory.Output<double>(c.images * kStemPatch * kStemPatchPadded);
    float* scratch = memory.Scratch(k.stem_scratch(twin.stem));
    const StemStatistics work = {.stem = twin.stem, .gram = gram};
    for (long image = c.images; image-- > 0;) k.stem_statistics(work, image, scratch);

    for (int image = 0; image < c.images; ++image) {
      std::vector<double> patches;
      for (int y = 0; y < c.conv.out_h; ++y)
        for (int x = 0; x < c.conv.out_w; ++x)
          for (int tap = 0; tap < kStemPatch; ++tap) patches.push_back(twin.Patch(image, y, x, tap));
      const double* of_image = gram + image * kStemPatch * kStemPatchPadded;
      for (int i = 0; i < kStemPatch; ++i) {
        BoundedSum sum;
        for (size_t at = i; at < patches.size(); at += kStemPatch) sum.Add(patches[at]);
        test.Near("sum of p", i, of_image[i * kStemPatchPadded + kStemPatch], sum);
        for (int j = i; j < kStemPatch; ++j) {
          BoundedSum product;
          for (size_t at = 0; at < patches.size(); at += kStemPatch) product.Add(patches[at + i] * patches[at + j]);
          test.Near("gram", i * kStemPatchPadded + j, of_image[i * kStemPatchPadded + j], product);
        }
      }
    }
    memory.Verify(test);
  }
}

void TestForward(const KernelTable& k) {
  Test test(k.name, "stem_forward");
  uint32_t seed = 1;
  for (const Case& c : Thinned(Cases())) {
    Describe(test, c);
    const bool with_winners = seed % 3 != 0;
    Memory memory;
    const Twin twin(c, seed++, memory);
    std::vector<float> sign(kStemPatchPadded, 1.0f);
    for (int channel = 1; channel < c.channels; channel += 3) sign[channel] = -1.0f;
    const int parts = static_cast<int>(std::min<long>(1 + seed % 4, c.pool.out_h));
    std::vector<float*> z;
    for (int channel = 0; channel < c.channels; ++channel) z.push_back(memory.OutputPlane(c.images * c.pixels()));
    uint8_t* winners = with_winners ? memory.Output<uint8_t>(c.images * c.pixels() * kStemPatchPadded) : nullptr;
    float* scratch = memory.Scratch(k.stem_scratch(twin.stem));
    const StemForward<float> work = {.stem = twin.Signed(sign, memory),
                              .sign = memory.Input(sign),
                              .z = z.data(),
                              .winners = winners,
                              .parts = parts};
    for (long task = c.images * parts; task-- > 0;) k.f32.stem_forward(work, task, scratch);

    for (int image = 0; image < c.images; ++image) {
      const std::vector<double> map = twin.Map(image);
      for (int v = 0; v < c.pool.out_h; ++v)
        for (int u = 0; u < c.pool.out_w; ++u)
          for (int channel = 0; channel < c.channels; ++channel) {
            int winner = -1;
            double best = 0;
            for (int place = 0; place < 9; ++place) {
              const int y = 2 * v - c.pool.pad_top + place / 3, x = 2 * u - c.pool.pad_left + place % 3;
              if (y < 0 || y >= c.conv.out_h || x < 0 || x >= c.conv.out_w) continue;
              const double candidate = map[(static_cast<long>(y) * c.conv.out_w + x) * c.channels + channel];
              if (winner >= 0 && candidate * sign[channel] <= best * sign[channel]) continue;
              winner = place;
              best = candidate;
            }
            const long at = image * c.pixels() + static_cast<long>(v) * c.pool.out_w + u;
            test.Near("z", at, z[channel][at], best, 0);
            if (with_winners) test.Same("winner", at, winners[at * kStemPatchPadded + channel], winner);
          }
    }
    memory.Verify(test);
  }
}

void TestBackward(const KernelTable& k) {
  Test test(k.name, "stem_backward");
  uint32_t seed = 1;
  for (const Case& c : Thinned(Cases())) {
    Describe(test, c);
    Memory memory;
    Numbers numbers(seed);
    const Twin twin(c, seed++, memory);
    // Any place of a window inside the map may have won.
    std::vector<uint8_t> winners(c.images * c.pixels() * kStemPatchPadded, 0);
    std::vector<std::vector<float>> g(c.channels);
    std::vector<BoundedSum> expected(c.images * c.channels * kStemPatch);
    for (int image = 0; image < c.images; ++image)
      for (int v = 0; v < c.pool.out_h; ++v)
        for (int u = 0; u < c.pool.out_w; ++u)
          for (int channel = 0; channel < c.channels; ++channel) {
            int place, y, x;
            do {
              place = static_cast<int>(numbers.Below(9));
              y = 2 * v - c.pool.pad_top + place / 3;
              x = 2 * u - c.pool.pad_left + place % 3;
            } while (y < 0 || y >= c.conv.out_h || x < 0 || x >= c.conv.out_w);
            const long at = image * c.pixels() + static_cast<long>(v) * c.pool.out_w + u;
            winners[at * kStemPatchPadded + channel] = static_cast<uint8_t>(place);
            const float gradient = g[channel].emplace_back(numbers.Fraction(16, 2));
            for (int tap = 0; tap < kStemPatch; ++tap)
              expected[(image * c.channels + channel) * kStemPatch + tap].Add(gradient * twin.Patch(image, y, x, tap));
          }
    std::vector<const float*> gradients;
    for (int channel = 0; channel < c.channels; ++channel) gradients.push_back(memory.InputPlane(g[channel]));
    float* dw = memory.Output(c.images * kStemPatchPadded * kStemPatchPadded);
    float* scratch = memory.Scratch(k.stem_scratch(twin.stem));
    const StemBackward<float> work = {.stem = twin.stem, .g = gradients.data(), .winners = memory.Input(winners), .dw = dw};
    for (long image = c.images; image-- > 0;) k.f32.stem_backward(work, image, scratch);

    for (int image = 0; image < c.images; ++image)
      for (int channel = 0; channel < c.channels; ++channel)
        for (int tap = 0; tap < kStemPatch; ++tap) {
          const long at = (image * c.channels + channel) * kStemPatch + tap;
          test.Near("dw", at, dw[(image * kStemPatchPadded + channel) * kStemPatchPadded + tap], expected[at]);
        }
    memory.Verify(test);
  }
}

}  // namespace

void TestStem(const KernelTable& kernels) {
  TestStatistics(kernels);
  TestForward(kernels);
  TestBackward(kernels);
}

}  // namespace riffle::test

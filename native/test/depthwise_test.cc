// Depthwise 3x3 convolution against its definition in f64: planes of one pixel, narrower than a vector and wider,
// stride 2 on even and odd sizes with either padding.
#include "check.h"

namespace riffle::test {
namespace {

constexpr int kPlanes = 3;
constexpr int kTaps = 9;

struct Case {
  int images;
  int group;  // images whose sums are put down together
  Window window;

  int groups() const { return (images + group - 1) / group; }

  long in_pixels() const { return static_cast<long>(window.in_h) * window.in_w; }
  long out_pixels() const { return static_cast<long>(window.out_h) * window.out_w; }
};

std::vector<Case> Cases() {
  std::vector<Case> cases;
  const int sizes[] = {1, 2, 3, 4, 5, 7, 8, 9, 14, 15, 16, 17, 18, 28, 31, 32, 33, 35};
  int n = 0;
  for (int h : sizes)
    for (int w : sizes) {
      // Tall and wide planes too, but not every pair of large ones.
      if (h != w && h > 9 && w > 9 && (h + w) % 4 != 0) continue;
      const int images = 1 + n % 5, group = 1 + n / 2 % 3;
      ++n;
      cases.push_back({images, group, {.in_h = h, .in_w = w, .out_h = h, .out_w = w, .stride = 1, .pad_top = 1, .pad_left = 1}});
      // Stride 2: one pixel of padding before, or none where the size is even (TensorFlow's SAME).
      for (int pad_top = h % 2; pad_top <= 1; ++pad_top)
        for (int pad_left = w % 2; pad_left <= 1; ++pad_left)
          cases.push_back({images,
                           group,
                           {.in_h = h,
                            .in_w = w,
                            .out_h = (h + 1) / 2,
                            .out_w = (w + 1) / 2,
                            .stride = 2,
                            .pad_top = pad_top,
                            .pad_left = pad_left}});
    }
  return cases;
}

void Describe(Test& test, const Case& c) {
  const Window& w = c.window;
  test.Case("%d images of %dx%d summed by %d, stride %d, padding %d and %d", c.images, w.in_h, w.in_w, c.group, w.stride, w.pad_top,
            w.pad_left);
}

// Calls visit(input index, output index, tap) for every tap of an image that lies inside it.
template <class Visit>
void EachTap(const Window& w, const Visit& visit) {
  for (int oy = 0; oy < w.out_h; ++oy)
    for (int ox = 0; ox < w.out_w; ++ox)
      for (int tap = 0; tap < kTaps; ++tap) {
        const int iy = oy * w.stride + tap / 3 - w.pad_top, ix = ox * w.stride + tap % 3 - w.pad_left;
        if (iy >= 0 && iy < w.in_h && ix >= 0 && ix < w.in_w)
          visit(static_cast<long>(iy) * w.in_w + ix, static_cast<long>(oy) * w.out_w + ox, tap);
      }
}

void TestForward(const KernelTable& k) {
  Test test(k.name, "depthwise_forward");
  uint32_t seed = 1;
  for (const Case& c : Thinned(Cases())) {
    Describe(test, c);
    const bool with_sums = seed % 4 != 0;
    Numbers numbers(seed++);
    Memory memory;
    std::vector<RandomPlane> x;
    std::vector<InputPlane<float>> inputs;
    std::vector<float*> z;
    std::vector<float> filters;
    for (int p = 0; p < kPlanes; ++p) {
      inputs.push_back(x.emplace_back(numbers, c.images * c.in_pixels()).In(memory));
      z.push_back(memory.OutputPlane(c.images * c.out_pixels()));
      for (int tap = 0; tap < kTaps; ++tap) filters.push_back(numbers.Uniform());
    }
    float* sums = with_sums ? memory.Output(kPlanes * c.groups() * 2) : nullptr;
    float* scratch = memory.Scratch(k.depthwise_scratch(c.window));
    const DepthwiseForward<float> work = {.images = c.images,
                                   .window = c.window,
                                   .x = inputs.data(),
                                   .z = z.data(),
                                   .weights = memory.Input(filters),
                                   .group = c.group,
                                   .sums = sums};
    // A plane alone, and two whose images follow each other.
    k.f32.depthwise_forward(work, 2, 3, scratch);
    k.f32.depthwise_forward(work, 0, 2, scratch);

    for (int p = 0; p < kPlanes; ++p) {
      std::vector<BoundedSum> sum(c.groups()), squares(c.groups());
      for (int n = 0; n < c.images; ++n) {
        std::vector<BoundedSum> expected(c.out_pixels());
        EachTap(c.window, [&](long in, long out, int tap) {
          expected[out].Add(filters[p * kTaps + tap] * x[p].y(n * c.in_pixels() + in));
        });
        for (long i = 0; i < c.out_pixels(); ++i) {
          const long at = n * c.out_pixels() + i;
          test.Near("z", at, z[p][at], expected[i]);
          sum[n / c.group].Add(expected[i]);
          squares[n / c.group].Add(expected[i] * expected[i]);
        }
      }
      for (int group = 0; with_sums && group < c.groups(); ++group) {
        const float* of_group = sums + (p * c.groups() + group) * 2;
        test.Near("sum of z", p, of_group[0], sum[group]);
        test.Near("sum of z*z", p, of_group[1], squares[group]);
      }
    }
    memory.Verify(test);
  }
}

void TestBackward(const KernelTable& k) {
  Test test(k.name, "depthwise_backward");
  uint32_t seed = 1;
  for (const Case& c : Thinned(Cases())) {
    Describe(test, c);
    Numbers numbers(seed++);
    Memory memory;
    std::vector<RandomPlane> x;
    std::vector<RandomGradient> dz;
    std::vector<RandomSum> before;
    std::vector<InputPlane<float>> inputs;
    std::vector<OutputGradient<float>> output_gradients;
    std::vector<InputGradient<float>> input_gradients;
    std::vector<float> filters;
    for (int p = 0; p < kPlanes; ++p) {
      inputs.push_back(x.emplace_back(numbers, c.images * c.in_pixels()).In(memory));
      output_gradients.push_back(dz.emplace_back(numbers, c.images * c.out_pixels()).In(memory));
      input_gradients.push_back(before.emplace_back(numbers, c.images * c.in_pixels()).In(memory));
      for (int tap = 0; tap < kTaps; ++tap) filters.push_back(numbers.Uniform());
    }
    float* sums = memory.Output(kPlanes * c.groups() * 2);
    float* dw = memory.Output(kPlanes * c.groups() * kTaps);
    float* scratch = memory.Scratch(k.depthwise_scratch(c.window));
    const DepthwiseBackward<float> work = {.images = c.images,
                                    .window = c.window,
                                    .x = inputs.data(),
                                    .dz = output_gradients.data(),
                                    .gx = input_gradients.data(),
                                    .weights = memory.Input(filters),
                                    .group = c.group,
                                    .sums = sums,
                                    .dw = dw};
    for (long plane = kPlanes; plane-- > 0;) k.f32.depthwise_backward(work, plane, scratch);

    for (int p = 0; p < kPlanes; ++p) {
      std::vector<BoundedSum> sum(c.groups()), dot(c.groups()), filter(c.groups() * kTaps);
      for (int n = 0; n < c.images; ++n) {
        std::vector<BoundedSum> expected(c.in_pixels());
        EachTap(c.window, [&](long in, long out, int tap) {
          const double gradient = dz[p].dz(n * c.out_pixels() + out);
          const long at = n * c.in_pixels() + in;
          if (x[p].open(at)) expected[in].Add(filters[p * kTaps + tap] * gradient);
          filter[n / c.group * kTaps + tap].Add(gradient * x[p].y(at));
        });
        for (long i = 0; i < c.in_pixels(); ++i) {
          const long at = n * c.in_pixels() + i;
          expected[i].Add(before[p].before[at]);
          test.Near("gx", at, input_gradients[p].g[at], expected[i]);
          sum[n / c.group].Add(expected[i]);
          dot[n / c.group].Add(expected[i] * x[p].z[at]);
        }
      }
      for (int group = 0; group < c.groups(); ++group) {
        const long at = p * c.groups() + group;
        test.Near("sum of gx", at, sums[at * 2], sum[group]);
        test.Near("sum of gx*z", at, sums[at * 2 + 1], dot[group]);
        for (int tap = 0; tap < kTaps; ++tap)
          test.Near("dw", at * kTaps + tap, dw[at * kTaps + tap], filter[group * kTaps + tap]);
      }
    }
    memory.Verify(test);
  }
}

}  // namespace

void TestDepthwise(const KernelTable& kernels) {
  TestForward(kernels);
  TestBackward(kernels);
}

}  // namespace riffle::test

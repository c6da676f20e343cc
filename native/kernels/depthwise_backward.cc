// Gradients of a depthwise convolution's inputs and filters.
#include "depthwise.h"

namespace riffle::RIFFLE_ISA {
namespace {

// One vector of an input's gradient: masked where y is not positive, added to what stands there, summed.
template <class T>
RIFFLE_INLINE void PutGradient(Vec v, Vec y, const InputPlane<T>& x, const InputGradient<T>& gx, long at, long valid,
                               Sums& sums) {
  if (x.relu) v = y > Vec{} ? v : Vec{};
  if (gx.accumulate) v += Load(gx.g + at);
  Vec z = Load(x.z + at);
  if (valid < kLanes) {
    v = KeepFirst(v, valid);
    z = KeepFirst(z, valid);
  }
  sums.first += v;
  sums.second += v * z;
  if (valid >= kLanes) {
    Store(gx.g + at, v);
  } else {
    StoreFirst(gx.g + at, v, valid);  // with `accumulate`, what stands behind is still needed
  }
}

template <class T>
void BackwardStride1(const DepthwiseBackward<T>& p, long plane, float* scratch) {
  const Window w = p.window;  // a copy: for all the compiler knows, stores to planes could change the other
  const Stage stage = StageOf(w);
  const long one = StageFloats(stage), s = stage.pitch;
  const long pixels = static_cast<long>(w.in_h) * w.in_w;
  const Normalised<T> input(p.x[plane]);
  const Gradient<T> gradient(p.dz[plane]);
  const float* k = p.weights + plane * 9;
  // Copies again.
  const InputPlane<T> x_plane = p.x[plane];
  const InputGradient<T> gx = p.gx ? p.gx[plane] : InputGradient<T>{};
  const long rows = gx.g ? w.in_h : 0;  // that get a gradient: none of a frozen plane
  Vec flipped[9];
  for (int t = 0; t < 9; ++t) flipped[t] = Set(k[8 - t]);

  Clear(scratch, 2 * one);
  float* dz = scratch + kGuard;
  float* y = scratch + one + kGuard;
  float* dx = scratch + 2 * one;
  Sums sums;
  Vec total[9] = {};
  for (int n = 0; n < p.images; ++n) {
    StageRows(gradient, n * pixels, w.in_h, w.in_w, s, dz + s + 1);
    StageRows(input, n * pixels, w.in_h, w.in_w, s, y + s + 1);
    Vec dk[9];
#pragma GCC unroll 9
    for (int t = 0; t < 9; ++t) dk[t] = total[t];
    // The column between rows is zero in y, so it adds nothing to dk. Two vectors at a time: nine sums, two results and
    // their operands just fit sixteen registers, and each filter value is loaded once for both.
    const long length = w.in_h * s;
    for (long i = 0; i < length; i += 2 * kLanes) {
      const Vec y0 = Load(y + s + 1 + i), y1 = Load(y + s + 1 + i + kLanes);
      Vec v0 = Vec{}, v1 = Vec{};
#pragma GCC unroll 9
      for (int t = 0; t < 9; ++t) {
        const float* at = dz + i + t / 3 * s + t % 3;
        Vec f = flipped[t], d = Load(at);
        RIFFLE_KEEP(f);
        RIFFLE_KEEP(d);
        v0 += d * f;
        dk[8 - t] += d * y0;
        d = Load(at + kLanes);
        RIFFLE_KEEP(d);
        v1 += d * f;
        dk[8 - t] += d * y1;
      }
      Store(dx + i, v0);
      Store(dx + i + kLanes, v1);
    }
#pragma GCC unroll 9
    for (int t = 0; t < 9; ++t) total[t] = dk[t];
    for (long row = 0; row < rows; ++row)
      for (long x = 0; x < w.in_w; x += kLanes)
        PutGradient(Load(dx + row * s + x), Load(y + (row + 1) * s + 1 + x), x_plane, gx,
                    n * pixels + row * w.in_w + x, w.in_w - x, sums);
    if (EndsGroup(n, p.images, p.group)) {
      const long at = GroupOf(plane, n, p.images, p.group);
      PutSums(sums, p.sums + 2 * at);
      PutFilterGradients(total, p.dw + 9 * at);
    }
  }
}

// Input row r (padded) and column c (padded) get taps ky = r mod 2 (and 2 more), kx = c mod 2 (and 2 more):
//   dx[r,c] = sum of w[ky,kx] * dz[(r-ky)/2, (c-kx)/2].
template <class T>
void BackwardStride2(const DepthwiseBackward<T>& p, long plane, float* scratch) {
  const Window w = p.window;  // a copy: for all the compiler knows, stores to planes could change the other
  const Stage stage = StageOf(w);
  const long one = StageFloats(stage), s = stage.pitch;
  const long in_pixels = static_cast<long>(w.in_h) * w.in_w, out_pixels = static_cast<long>(w.out_h) * w.out_w;
  const Normalised<T> input(p.x[plane]);
  const Gradient<T> gradient(p.dz[plane]);
  const float* k = p.weights + plane * 9;
  // Copies again.
  const InputPlane<T> x_plane = p.x[plane];
  const InputGradient<T> gx = p.gx ? p.gx[plane] : InputGradient<T>{};
  const long rows = gx.g ? w.in_h : 0;  // that get a gradient: none of a frozen plane
  Vec tap[9];
  for (int t = 0; t < 9; ++t) tap[t] = Set(k[t]);

  const long dz_floats = StageFloats({w.out_h + 2L, w.out_w + 1L});
  Clear(scratch, 4 * one + dz_floats);
  float* const base = scratch + kGuard;
  float* const y[2][2] = {{base, base + one}, {base + 2 * one, base + 3 * one}};
  // dz with a zero row above: d[-s-1 ..] is read for the taps one row up and one column left.
  float* d = scratch + 4 * one + kGuard + s + 1;
  float* const dx_base = scratch + 4 * one + dz_floats;
  float* const dx[2][2] = {{dx_base, dx_base + one}, {dx_base + 2 * one, dx_base + 3 * one}};

  Sums sums;
  Vec total[9] = {};
  for (int n = 0; n < p.images; ++n) {
    StageRows(gradient, n * out_pixels, w.out_h, w.out_w, s, d);
    StageParities(input, n * in_pixels, w, stage, y);
    Vec dk[9];
#pragma GCC unroll 9
    for (int t = 0; t < 9; ++t) dk[t] = total[t];
    const long length = stage.rows * s;
    for (long i = 0; i < length; i += kLanes) {
      const Vec here = Load(d + i), left = Load(d + i - 1), up = Load(d + i - s), corner = Load(d + i - s - 1);
      Store(dx[0][0] + i, here * tap[0] + left * tap[2] + (up * tap[6] + corner * tap[8]));
      Store(dx[0][1] + i, here * tap[1] + up * tap[7]);
      Store(dx[1][0] + i, here * tap[3] + left * tap[5]);
      Store(dx[1][1] + i, here * tap[4]);
      // `here` is zero in the column between rows and behind the last row.
      dk[0] += here * Load(y[0][0] + i);
      dk[1] += here * Load(y[0][1] + i);
      dk[2] += here * Load(y[0][0] + i + 1);
      dk[3] += here * Load(y[1][0] + i);
      dk[4] += here * Load(y[1][1] + i);
      dk[5] += here * Load(y[1][0] + i + 1);
      dk[6] += here * Load(y[0][0] + i + s);
      dk[7] += here * Load(y[0][1] + i + s);
      dk[8] += here * Load(y[0][0] + i + s + 1);
    }
#pragma GCC unroll 9
    for (int t = 0; t < 9; ++t) total[t] = dk[t];
    for (long row = 0; row < rows; ++row) {
      const long r = row + w.pad_top;
      if ((r >> 1) >= stage.rows) {
        // A row no window reaches (stride 2 may leave one over).
        for (long x = 0; x < w.in_w; x += kLanes)
          PutGradient(Vec{}, Vec{}, x_plane, gx, n * in_pixels + row * w.in_w + x, w.in_w - x, sums);
        continue;
      }
      const long line = (r >> 1) * s;
      const float* even = dx[r & 1][0] + line;
      const float* odd = dx[r & 1][1] + line;
      const float* even_y = y[r & 1][0] + line;
      const float* odd_y = y[r & 1][1] + line;
      const bool shifted = w.pad_left == 1;
      const float *first = shifted ? odd : even, *second = shifted ? even + 1 : odd;
      const float *first_y = shifted ? odd_y : even_y, *second_y = shifted ? even_y + 1 : odd_y;
      for (long x = 0; x < w.in_w; x += 2 * kLanes) {
        const long at = n * in_pixels + row * w.in_w + x, valid = w.in_w - x;
        const Vec e = Load(first + x / 2), o = Load(second + x / 2);
        const Vec ey = Load(first_y + x / 2), oy = Load(second_y + x / 2);
        PutGradient(InterleaveLow(e, o), InterleaveLow(ey, oy), x_plane, gx, at, valid, sums);
        if (valid > kLanes)
          PutGradient(InterleaveHigh(e, o), InterleaveHigh(ey, oy), x_plane, gx, at + kLanes,
                      valid - kLanes, sums);
      }
    }
    if (EndsGroup(n, p.images, p.group)) {
      const long at = GroupOf(plane, n, p.images, p.group);
      PutSums(sums, p.sums + 2 * at);
      PutFilterGradients(total, p.dw + 9 * at);
    }
  }
}

}  // namespace

template <class T>
void DepthwiseBackwardTask(const DepthwiseBackward<T>& p, long plane, float* scratch) {
  [[maybe_unused]] const Arithmetic<T> arithmetic;
  if (p.window.stride == 1) {
    BackwardStride1(p, plane, scratch);
  } else {
    BackwardStride2(p, plane, scratch);
  }
}

}  // namespace riffle::RIFFLE_ISA

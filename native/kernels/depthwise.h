// Depthwise 3x3 convolution, plane by plane.
//
//   z[y,x] = sum over ky,kx of w[ky,kx] * in[y*stride + ky - pad_top, x*stride + kx - pad_left]
//
// One image's plane is staged in cache with zeros around it, rows one element longer than wide: that one zero is
// the right pad of a row and the left pad of the next. Then the nine taps are nine shifted reads of one flat
// buffer and every vector is full, for 7x7 planes too; the column between rows computes rubbish that is not
// copied out. Stride 2 stages rows and columns of equal parity apart (four buffers), which makes its taps
// contiguous as well.
#pragma once

#include "kernels.h"
#include "tile.h"

namespace riffle::RIFFLE_ISA {
namespace {

// Flat vectors run past the last row by less than a vector; a guard of two vectors before and behind.
constexpr long kGuard = 2 * kLanes;

// One staged parity (or, for stride 1, the whole padded image): rows x pitch, from `data`.
struct Stage {
  long rows, pitch;
};

RIFFLE_INLINE Stage StageOf(const Window& w) {
  // Stride 1: a zero row above and below. Stride 2: of the 2*out+1 padded rows, out+1 are even.
  return w.stride == 1 ? Stage{w.in_h + 2L, w.in_w + 1L} : Stage{w.out_h + 1L, w.out_w + 1L};
}

RIFFLE_INLINE long StageFloats(const Stage& s) { return RoundUp(s.rows * s.pitch + 1 + 2 * kGuard, 16); }

RIFFLE_INLINE void Clear(float* p, long count) {
  for (long i = 0; i < count; ++i) p[i] = 0.0f;
}

// --- what is loaded: a normalised plane, or a batch-norm gradient ---

template <class T>
struct Normalised {
  const T* z;
  Vec scale, shift;
  bool relu;
  explicit RIFFLE_INLINE Normalised(const InputPlane<T>& x) : z(x.z), scale(Set(x.scale)), shift(Set(x.shift)), relu(x.relu) {}
  RIFFLE_INLINE Vec operator()(long i) const {
    const Vec y = Load(z + i) * scale + shift;
    return relu ? Relu(y) : y;
  }
};

template <class T>
struct Gradient {
  const T *g, *z;
  Vec a, b, c;
  explicit RIFFLE_INLINE Gradient(const OutputGradient<T>& d) : g(d.g), z(d.z), a(Set(d.a)), b(Set(d.b)), c(Set(d.c)) {}
  RIFFLE_INLINE Vec operator()(long i) const { return Load(g + i) * a + (Load(z + i) * b + c); }
};

// Rows of `width` values from `source(offset + ...)` to out + row*pitch, a vector of zeros behind each: that clears what
// the row's last vector left there; the next row is stored over what is too much.
template <class Source>
RIFFLE_INLINE void StageRows(const Source& source, long offset, long height, long width, long pitch, float* out) {
  for (long y = 0; y < height; ++y) {
    float* row = out + y * pitch;
    for (long x = 0; x < width; x += kLanes) Store(row + x, source(offset + y * width + x));
    Store(row + width, Vec{});
  }
}

// Rows of the image into four parities, likewise. Padded row r = y + pad_top goes to parity r & 1, row r >> 1; columns too.
template <class Source>
RIFFLE_INLINE void StageParities(const Source& source, long offset, const Window& w, const Stage& stage,
                                 float* const (&parity)[2][2]) {
  const long pad = w.pad_left;
  for (long y = 0; y < w.in_h; ++y) {
    const long r = y + w.pad_top;
    if ((r >> 1) >= stage.rows) break;
    float* even_row = parity[r & 1][0] + (r >> 1) * stage.pitch;
    float* odd_row = parity[r & 1][1] + (r >> 1) * stage.pitch;
    // Image columns 0, 2, 4, ... have the parity of the padding.
    float* first = pad == 0 ? even_row : odd_row;
    float* second = pad == 0 ? odd_row : even_row + 1;
    for (long x = 0; x < w.in_w; x += 2 * kLanes) {
      const long at = offset + y * w.in_w + x;
      const Vec u = source(at), v = x + kLanes < w.in_w ? source(at + kLanes) : Vec{};
      Store(first + x / 2, Even(u, v));
      Store(second + x / 2, Odd(u, v));
    }
    Store(first + (w.in_w + 1) / 2, Vec{});
    Store(second + w.in_w / 2, Vec{});
    if (pad != 0) even_row[0] = 0.0f;
  }
}

struct Sums {
  Vec first = Vec{}, second = Vec{};
};

// Sums run over `group` images before their lanes are added up.
RIFFLE_INLINE bool EndsGroup(int image, int images, int group) {
  return (image + 1) % group == 0 || image + 1 == images;
}
RIFFLE_INLINE long GroupOf(long plane, int image, int images, int group) {
  return plane * ((images + group - 1) / group) + image / group;
}

RIFFLE_INLINE void PutSums(Sums& sums, float* out) {
  out[0] = Sum(sums.first);
  out[1] = Sum(sums.second);
  sums = Sums{};
}

RIFFLE_INLINE void PutFilterGradients(Vec (&dk)[9], float* out) {
#pragma GCC unroll 9
  for (int t = 0; t < 9; ++t) {
    out[t] = Sum(dk[t]);
    dk[t] = Vec{};
  }
}

}  // namespace

}  // namespace riffle::RIFFLE_ISA

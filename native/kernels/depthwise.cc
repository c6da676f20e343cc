// Depthwise 3x3 convolution, plane by plane.
//
//   z[y,x] = sum over ky,kx of w[ky,kx] * in[y*stride + ky - pad_top, x*stride + kx - pad_left]
//
// One image's plane is staged in cache with zeros around it, rows one element longer than wide: that one zero is
// the right pad of a row and the left pad of the next. Then the nine taps are nine shifted reads of one flat
// buffer and every vector is full, for 7x7 planes too; the column between rows computes rubbish that is not
// copied out. Stride 2 stages rows and columns of equal parity apart (four buffers), which makes its taps
// contiguous as well.
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

size_t DepthwiseScratch(const Window& w) {
  // Forward: the stage(s) and the flat output. Backward: stages of x and of dz and the flat dx.
  const Stage s = StageOf(w);
  const long one = StageFloats(s);
  return static_cast<size_t>(w.stride == 1 ? 3 * one : 9 * one + StageFloats({w.out_h + 2L, w.out_w + 1L}));
}

namespace {

// The row sums of a filter: three staged values beside each other times one row of taps, on top of `v`.
RIFFLE_INLINE Vec AddRow(Vec v, const Vec (&in)[3], const Vec* tap) {
  v += in[0] * tap[0];
  v += in[1] * tap[1];
  return v + in[2] * tap[2];
}

// Stride 1: rows a pitch apart in one buffer. Each row is loaded once and serves three rows of results.
struct TapsStride1 {
  const float* in;
  long pitch;
  const Vec (&tap)[9];

  // The result at flat position i.
  RIFFLE_INLINE Vec operator()(long i) const {
    Vec v = {};
    for (int k = 0; k < 3; ++k) {
      const Vec row[3] = {Load(in + i + k * pitch), Load(in + i + k * pitch + 1), Load(in + i + k * pitch + 2)};
      v = AddRow(v, row, tap + 3 * k);
    }
    return v;
  }

  // put(y, result) for the vector at column x of every row.
  template <class Put>
  RIFFLE_INLINE void Column(long x, long rows, const Put& put) const {
    const float* q = in + x;
    const auto next = [&](Vec(&row)[3]) {
      row[0] = Load(q);
      row[1] = Load(q + 1);
      row[2] = Load(q + 2);
      q += pitch;
    };
    Vec row[3];
    next(row);
    Vec whole = AddRow(Vec{}, row, tap);  // lacks the lowest row of taps
    next(row);
    whole = AddRow(whole, row, tap + 3);
    Vec begun = AddRow(Vec{}, row, tap);  // has the topmost only
    for (long y = 0; y < rows; ++y) {
      next(row);
      put(y, AddRow(whole, row, tap + 6));
      whole = AddRow(begun, row, tap + 3);
      begun = AddRow(Vec{}, row, tap);
    }
  }
};

// Stride 2: even and odd rows and columns in buffers of their own; each even row serves two rows of results.
struct TapsStride2 {
  const float *ee, *eo, *oe, *oo;
  long pitch;
  const Vec (&tap)[9];

  RIFFLE_INLINE void Even(long i, Vec (&row)[3]) const {
    row[0] = Load(ee + i);
    row[1] = Load(eo + i);
    row[2] = Load(ee + i + 1);
  }
  RIFFLE_INLINE void Odd(long i, Vec (&row)[3]) const {
    row[0] = Load(oe + i);
    row[1] = Load(oo + i);
    row[2] = Load(oe + i + 1);
  }

  RIFFLE_INLINE Vec operator()(long i) const {
    Vec row[3];
    Even(i, row);
    Vec v = AddRow(Vec{}, row, tap);
    Odd(i, row);
    v = AddRow(v, row, tap + 3);
    Even(i + pitch, row);
    return AddRow(v, row, tap + 6);
  }

  template <class Put>
  RIFFLE_INLINE void Column(long x, long rows, const Put& put) const {
    Vec row[3];
    Even(x, row);
    Vec begun = AddRow(Vec{}, row, tap);
    for (long y = 0; y < rows; ++y, x += pitch) {
      Odd(x, row);
      const Vec whole = AddRow(begun, row, tap + 3);
      Even(x + pitch, row);
      put(y, AddRow(whole, row, tap + 6));
      begun = AddRow(Vec{}, row, tap);
    }
  }
};

// One image: column by column, a vector wide, where rows fill their vectors; else over the flat buffer first, every vector
// full. What a vector leaves behind a row is the beginning of the next row (or the next image), stored later: so the
// rightmost column goes first.
template <class Taps, class T>
RIFFLE_INLINE void PutImage(const Taps& taps, const Window& w, long pitch, float* flat, T* z) {
  const long by_rows = w.out_h * ((w.out_w + kLanes - 1) / kLanes);
  const long by_vectors = (w.out_h * pitch + kLanes - 1) / kLanes;
  if (3 * by_rows <= 4 * by_vectors) {
    for (long x = (w.out_w - 1) / kLanes * kLanes; x >= 0; x -= kLanes)
      taps.Column(x, w.out_h, [&](long y, Vec v) { Store(z + y * w.out_w + x, v); });
    return;
  }
  for (long i = 0; i < w.out_h * pitch; i += kLanes) Store(flat + i, taps(i));
  for (long y = 0; y < w.out_h; ++y)
    for (long x = 0; x < w.out_w; x += kLanes) Store(z + y * w.out_w + x, Load(flat + y * pitch + x));
}

// Sum and sum of squares of z[0, count) to out. Two of each at a time: one addition would wait for the other.
template <class T>
RIFFLE_INLINE void PutSumsOf(const T* z, long count, float* out) {
  Sums even, odd;
  const auto add = [](Sums& sums, Vec v) {
    sums.first += v;
    sums.second += v * v;
  };
  for (; count > 2 * kLanes; count -= 2 * kLanes, z += 2 * kLanes) {
    add(even, Load(z));
    add(odd, Load(z + kLanes));
  }
  add(even, KeepFirst(Load(z), count));
  if (count > kLanes) add(odd, KeepFirst(Load(z + kLanes), count - kLanes));
  even.first += odd.first;
  even.second += odd.second;
  PutSums(even, out);
}

// Images up to this size are staged one ahead: what has just been stored cannot be loaded at another offset at once,
// and a small image's taps would wait for it.
constexpr long kStagedAhead = 32 * 32;

}  // namespace

template <class T>
void DepthwiseForwardTask(const DepthwiseForward<T>& p, long begin, long end, float* scratch) {
  [[maybe_unused]] const Arithmetic<T> arithmetic;
  const Window w = p.window;  // a copy: for all the compiler knows, stores to planes could change the other
  const Stage stage = StageOf(w);
  const long one = StageFloats(stage), pitch = stage.pitch;
  const long in_pixels = static_cast<long>(w.in_h) * w.in_w, out_pixels = static_cast<long>(w.out_h) * w.out_w;

  // Images one after another, those of the next plane behind those of one.
  const long images = (end - begin) * p.images;
  const int stages = w.stride == 1 ? 1 : 4;
  const int ahead = images > 1 && in_pixels <= kStagedAhead ? 1 : 0;
  // Once: what is staged over it later leaves the zeros around it.
  Clear(scratch, (1 + ahead) * stages * one);
  float* const base = scratch + kGuard;
  float* flat = scratch + 2 * stages * one;
  const auto stage_image = [&](long plane, int n, long turn) {
    const Normalised<T> source(p.x[plane]);
    float* const in = base + (turn & ahead) * stages * one;
    if (w.stride == 1) {
      StageRows(source, n * in_pixels, w.in_h, w.in_w, pitch, in + pitch + 1);
    } else {
      float* const parity[2][2] = {{in, in + one}, {in + 2 * one, in + 3 * one}};
      StageParities(source, n * in_pixels, w, stage, parity);
    }
  };

  long turn = 0;
  if (ahead) stage_image(begin, 0, 0);
  for (long plane = begin; plane < end; ++plane) {
    Vec tap[9];
    for (int t = 0; t < 9; ++t) tap[t] = Set(p.weights[plane * 9 + t]);
    for (int n = 0, first = 0; n < p.images; ++n, ++turn) {
      if (!ahead) {
        stage_image(plane, n, turn);
      } else if (n + 1 < p.images) {
        stage_image(plane, n + 1, turn + 1);
      } else if (plane + 1 < end) {
        stage_image(plane + 1, 0, turn + 1);
      }
      const float* in = base + (turn & ahead) * stages * one;
      T* z = p.z[plane] + n * out_pixels;
      if (w.stride == 1) {
        PutImage(TapsStride1{in, pitch, tap}, w, pitch, flat, z);
      } else {
        const TapsStride2 taps{in, in + one, in + 2 * one, in + 3 * one, pitch, tap};
        PutImage(taps, w, pitch, flat, z);
      }
      if (p.sums && EndsGroup(n, p.images, p.group)) {
        PutSumsOf(p.z[plane] + first * out_pixels, (n + 1 - first) * out_pixels,
                  p.sums + 2 * GroupOf(plane, n, p.images, p.group));
        first = n + 1;
      }
    }
  }
}

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

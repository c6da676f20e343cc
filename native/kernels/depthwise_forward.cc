// Depthwise convolution forward; depthwise.h has the rule.
#include "depthwise.h"

namespace riffle::RIFFLE_ISA {

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

}  // namespace riffle::RIFFLE_ISA

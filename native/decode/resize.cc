#include "resize.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <vector>

#if defined(__SSE2__)
#include <immintrin.h>
#if defined(__x86_64__) && defined(__GNUC__)
#define RIFFLE_X86
#endif
#elif defined(__ARM_NEON)
#include <arm_neon.h>
#elif defined(__wasm_simd128__)
#include <wasm_simd128.h>
#endif

// Compiled for AVX2 as well and chosen when loaded, where the tools can. Without FMA, so results are the same. Not under
// ThreadSanitizer, which crashes where code runs before it has started, as what chooses does.
#if defined(__x86_64__) && defined(__linux__) && defined(__GLIBC__) && defined(__GNUC__) && !defined(__clang__) && \
    !defined(__SANITIZE_THREAD__)
#define RIFFLE_WIDE __attribute__((target_clones("avx2", "default")))
#else
#define RIFFLE_WIDE
#endif

namespace decode {
namespace {

// One pixel as four floats: R, G, B and whatever follows in memory. Rows are padded for the fourth.
#if defined(__SSE2__)
using Pixel = __m128;
inline Pixel Load(const uint8_t* p) {
  int32_t bytes;
  std::memcpy(&bytes, p, 4);
  const __m128i zero = _mm_setzero_si128();
  return _mm_cvtepi32_ps(_mm_unpacklo_epi16(_mm_unpacklo_epi8(_mm_cvtsi32_si128(bytes), zero), zero));
}
inline Pixel Load(const float* p) { return _mm_loadu_ps(p); }
inline void Store(float* p, Pixel v) { _mm_storeu_ps(p, v); }
inline Pixel Zero() { return _mm_setzero_ps(); }
inline Pixel Add(Pixel a, Pixel b) { return _mm_add_ps(a, b); }
inline Pixel Sub(Pixel a, Pixel b) { return _mm_sub_ps(a, b); }
inline Pixel Scale(Pixel a, float s) { return _mm_mul_ps(a, _mm_set1_ps(s)); }
#elif defined(__ARM_NEON)
using Pixel = float32x4_t;
inline Pixel Load(const uint8_t* p) {
  uint32_t bytes;
  std::memcpy(&bytes, p, 4);
  const uint8x8_t v = vreinterpret_u8_u32(vdup_n_u32(bytes));
  return vcvtq_f32_u32(vmovl_u16(vget_low_u16(vmovl_u8(v))));
}
inline Pixel Load(const float* p) { return vld1q_f32(p); }
inline void Store(float* p, Pixel v) { vst1q_f32(p, v); }
inline Pixel Zero() { return vdupq_n_f32(0); }
inline Pixel Add(Pixel a, Pixel b) { return vaddq_f32(a, b); }
inline Pixel Sub(Pixel a, Pixel b) { return vsubq_f32(a, b); }
inline Pixel Scale(Pixel a, float s) { return vmulq_n_f32(a, s); }
#elif defined(__wasm_simd128__)
using Pixel = v128_t;
inline Pixel Load(const uint8_t* p) {
  const v128_t words = wasm_u16x8_extend_low_u8x16(wasm_v128_load32_zero(p));
  return wasm_f32x4_convert_i32x4(wasm_u32x4_extend_low_u16x8(words));
}
inline Pixel Load(const float* p) { return wasm_v128_load(p); }
inline void Store(float* p, Pixel v) { wasm_v128_store(p, v); }
inline Pixel Zero() { return wasm_f32x4_const_splat(0); }
inline Pixel Add(Pixel a, Pixel b) { return wasm_f32x4_add(a, b); }
inline Pixel Sub(Pixel a, Pixel b) { return wasm_f32x4_sub(a, b); }
inline Pixel Scale(Pixel a, float s) { return wasm_f32x4_mul(a, wasm_f32x4_splat(s)); }
#else
struct Pixel {
  float v[4];
};
template <typename T>
inline Pixel Load(const T* p) {
  return {{float(p[0]), float(p[1]), float(p[2]), float(p[3])}};
}
inline void Store(float* p, Pixel a) { std::memcpy(p, a.v, sizeof a.v); }
inline Pixel Zero() { return {{0, 0, 0, 0}}; }
inline Pixel Add(Pixel a, Pixel b) {
  return {{a.v[0] + b.v[0], a.v[1] + b.v[1], a.v[2] + b.v[2], a.v[3] + b.v[3]}};
}
inline Pixel Scale(Pixel a, float s) { return {{a.v[0] * s, a.v[1] * s, a.v[2] * s, a.v[3] * s}}; }
inline Pixel Sub(Pixel a, Pixel b) { return Add(a, Scale(b, -1)); }
#endif

// Output position i lies between source positions lower and upper: lower + lerp * (upper - lower).
struct Lerp {
  size_t lower, upper;
  float lerp;
};

std::vector<Lerp> Lerps(size_t in, size_t resized, size_t window, size_t count) {
  const float scale = static_cast<float>(in) / static_cast<float>(resized);
  std::vector<Lerp> lerps(count);
  for (size_t i = 0; i < count; ++i) {
    const float at = static_cast<float>(window + i) * scale;
    const size_t lower = std::min(static_cast<size_t>(at), in - 1);
    lerps[i] = {lower, std::min(lower + 1, in - 1), at - static_cast<float>(lower)};
  }
  return lerps;
}

// An output pixel of a row: between the pixel at byte `at` of the source row and the one behind it.
struct Between {
  size_t at;
  float lerp;
};

// Where a row's output pixels are, in a box of `width` pixels. In a mirrored row the pixel that the rule calls lower lies
// behind the upper one. Past the border both are the last pixel: its neighbour in memory is left out by a share of 0,
// or, where it is the lower one, of 1, which is exact for 8-bit values.
std::vector<Between> PixelsBetween(const std::vector<Lerp>& lerps, size_t width, bool flip) {
  std::vector<Between> pixels;
  pixels.reserve(lerps.size());
  for (const auto& [lower, upper, lerp] : lerps) {
    const bool border = lower == upper;
    if (flip)
      pixels.push_back({3 * (width - 1 - upper), border ? 1 : lerp});
    else
      pixels.push_back({3 * lower, border ? 0 : lerp});
  }
  return pixels;
}

// `count` output pixels of a source row; `out` has room for one float more.
void BlendPixels(const uint8_t* row, const Between* pixels, size_t count, bool flip, float* out) {
  const size_t lower = flip ? 3 : 0, upper = 3 - lower;
  for (size_t i = 0; i < count; ++i) {
    const uint8_t* at = row + pixels[i].at;
    const Pixel a = Load(at + lower), b = Load(at + upper);
    Store(out + 3 * i, Add(a, Scale(Sub(b, a), pixels[i].lerp)));
  }
}

#ifdef RIFFLE_X86
// The same, two pixels at a time: their eight bytes side by side, spread to floats by two shuffles.
__attribute__((target("avx2"))) void BlendPixelsAvx2(const uint8_t* row, const Between* pixels, size_t count, bool flip,
                                                     float* out) {
  const __m128i first = _mm_setr_epi8(0, -1, -1, -1, 1, -1, -1, -1, 2, -1, -1, -1, -1, -1, -1, -1);
  const __m128i second = _mm_setr_epi8(3, -1, -1, -1, 4, -1, -1, -1, 5, -1, -1, -1, -1, -1, -1, -1);
  const __m256i lower = _mm256_broadcastsi128_si256(flip ? second : first);
  const __m256i upper = _mm256_broadcastsi128_si256(flip ? first : second);
  size_t i = 0;
  for (; i + 2 <= count; i += 2) {
    const __m128i left = _mm_loadl_epi64(reinterpret_cast<const __m128i*>(row + pixels[i].at));
    const __m128i right = _mm_loadl_epi64(reinterpret_cast<const __m128i*>(row + pixels[i + 1].at));
    const __m256i both = _mm256_set_m128i(right, left);
    const __m256 a = _mm256_cvtepi32_ps(_mm256_shuffle_epi8(both, lower));
    const __m256 b = _mm256_cvtepi32_ps(_mm256_shuffle_epi8(both, upper));
    const __m256 lerp = _mm256_set_m128(_mm_set1_ps(pixels[i + 1].lerp), _mm_set1_ps(pixels[i].lerp));
    const __m256 blended = _mm256_add_ps(a, _mm256_mul_ps(_mm256_sub_ps(b, a), lerp));
    _mm_storeu_ps(out + 3 * i, _mm256_castps256_ps128(blended));
    _mm_storeu_ps(out + 3 * i + 3, _mm256_extractf128_ps(blended, 1));
  }
  BlendPixels(row, pixels + i, count - i, flip, out + 3 * i);
}
#endif

// blended = top + lerp * (bottom - top), `count` values.
RIFFLE_WIDE void BlendRows(const float* top, const float* bottom, float lerp, size_t count, float* __restrict blended) {
  for (size_t i = 0; i < count; ++i) blended[i] = top[i] + (bottom[i] - top[i]) * lerp;
}

// Output position i is the sum of weights[k] * source[first + k].
struct Taps {
  struct Span {
    size_t first, count;
  };
  std::vector<Span> spans;
  std::vector<float> weights;  // span i's begin at i * stride
  std::vector<double> exact;   // the same before rounding
  size_t stride;
};

// Pillow's precompute_coeffs for a triangle: support of one output pixel, at least one source pixel. Nothing
// outside the box is used, as if it had been cut out first.
Taps TriangleTaps(double box, double length, size_t resized, size_t window, size_t count) {
  const double scale = length / static_cast<double>(resized);
  const double support = std::max(scale, 1.0);
  Taps taps;
  taps.stride = static_cast<size_t>(std::ceil(support)) * 2 + 1;
  taps.spans.resize(count);
  taps.weights.resize(count * taps.stride);
  taps.exact.resize(count * taps.stride);
  for (size_t i = 0; i < count; ++i) {
    const double centre = box + (static_cast<double>(window + i) + 0.5) * scale;
    const size_t first = static_cast<size_t>(std::max(centre - support + 0.5, std::floor(box)));
    const size_t end = static_cast<size_t>(std::min(centre + support + 0.5, std::ceil(box + length)));
    double* exact = taps.exact.data() + i * taps.stride;
    const double per_pixel = 1.0 / support;
    double total = 0;
    for (size_t k = first; k < end; ++k)
      total += exact[k - first] = std::max(0.0, 1 - std::abs((static_cast<double>(k) - centre + 0.5) * per_pixel));
    for (size_t k = 0; k < end - first; ++k)
      taps.weights[i * taps.stride + k] = static_cast<float>(exact[k] /= total);
    taps.spans[i] = {first, end - first};
  }
  return taps;
}

// sums = (add ? sums : 0) + weights[0] * rows[0] + ... + weights[3] * rows[3], `count` values.
RIFFLE_WIDE void AddFourRows(const uint8_t* const rows[4], const float weights[4], bool add, size_t count,
                             float* __restrict sums) {
  const uint8_t *a = rows[0], *b = rows[1], *c = rows[2], *d = rows[3];
  const float wa = weights[0], wb = weights[1], wc = weights[2], wd = weights[3];
  if (add)
    for (size_t i = 0; i < count; ++i) sums[i] = sums[i] + wa * a[i] + wb * b[i] + wc * c[i] + wd * d[i];
  else
    for (size_t i = 0; i < count; ++i) sums[i] = wa * a[i] + wb * b[i] + wc * c[i] + wd * d[i];
}

// 0..255 to 8 bits, halves up.
RIFFLE_WIDE void WriteRow(const float* row, size_t count, uint8_t* __restrict out) {
  for (size_t i = 0; i < count; ++i) out[i] = static_cast<uint8_t>(static_cast<int>(row[i] + 0.5f));
}

// 0..255 to shares of full scale.
void WriteRow(const float* row, size_t count, float* __restrict out) {
  for (size_t i = 0; i < count; ++i) out[i] = row[i] * (1.0f / 255.0f);
}

// Colour shift, grayscale, output: `count` pixels of `row`, in 0..255.
template <typename Out>
void FinishRow(const Transform& t, float* row, size_t count, Out* out) {
  if (t.red != 0 || t.green != 0 || t.blue != 0) {
    const float shift[3] = {255 * t.red, 255 * t.green, 255 * t.blue};
    for (size_t i = 0; i < count; ++i)
      for (size_t c = 0; c < 3; ++c) row[3 * i + c] = std::clamp(row[3 * i + c] + shift[c], 0.0f, 255.0f);
  }
  if (t.grayscale) {
    for (size_t i = 0; i < count; ++i) {
      float* p = row + 3 * i;
      p[0] = p[1] = p[2] = 0.2989f * p[0] + 0.587f * p[1] + 0.114f * p[2];
    }
  }
  WriteRow(row, 3 * count, out);
}

template <typename Out>
void ResizeTensorflow(const Transform& t, RowSource& source, Out* out, [[maybe_unused]] bool plain) {
  const size_t w = static_cast<size_t>(t.box_w), h = static_cast<size_t>(t.box_h);
  const size_t x0 = static_cast<size_t>(t.box_x), y0 = static_cast<size_t>(t.box_y);
  const std::vector<Between> xs = PixelsBetween(Lerps(w, t.resized_w, t.window_x, t.out_size), w, t.flip);
  const std::vector<Lerp> ys = Lerps(h, t.resized_h, t.window_y, t.out_size);
  auto* blend_pixels = BlendPixels;
#ifdef RIFFLE_X86
  if (!plain && __builtin_cpu_supports("avx2")) blend_pixels = BlendPixelsAvx2;
#endif

  // Two source rows, blended across; row y lies at y % 2, and two neighbours are all that an output row needs.
  const size_t width = 3 * t.out_size;
  std::vector<float> kept(2 * (width + 1)), row(width);
  size_t held[2] = {h, h};
  const auto across = [&](size_t y) {
    float* blended = kept.data() + y % 2 * (width + 1);
    if (held[y % 2] != y) blend_pixels(source.Row(y0 + y) + 3 * x0, xs.data(), t.out_size, t.flip, blended);
    held[y % 2] = y;
    return blended;
  };
  for (size_t y = 0; y < t.out_size; ++y) {
    const float* top = across(ys[y].lower);
    const float* bottom = across(ys[y].upper);
    BlendRows(top, bottom, ys[y].lerp, width, row.data());
    FinishRow(t, row.data(), t.out_size, out + y * width);
  }
}

template <typename Out>
void ResizePillow(const Transform& t, RowSource& source, Out* out) {
  // The filter is symmetric: resizing the flipped picture is flipping the resized one.
  const size_t window_x = t.flip ? t.resized_w - t.window_x - t.out_size : t.window_x;
  const Taps xs = TriangleTaps(t.box_x, t.box_w, t.resized_w, window_x, t.out_size);
  const Taps ys = TriangleTaps(t.box_y, t.box_h, t.resized_h, t.window_y, t.out_size);
  // Only the columns under some window are summed.
  const size_t begin = xs.spans.front().first;
  const size_t columns = xs.spans.back().first + xs.spans.back().count - begin;

  std::vector<float> down(3 * columns + 1), row(3 * t.out_size + 1);
  for (size_t y = 0; y < t.out_size; ++y) {
    const Taps::Span rows = ys.spans[y];
    // Four at a time, so that the sums are loaded and stored a quarter as often; missing ones weigh nothing.
    for (size_t k = 0; k < rows.count; k += 4) {
      const uint8_t* four[4];
      float weights[4];
      for (size_t j = 0; j < 4; ++j) {
        const bool there = k + j < rows.count;
        four[j] = there ? source.Row(rows.first + k + j) + 3 * begin : four[0];
        weights[j] = there ? ys.weights[y * ys.stride + k + j] : 0.0f;
      }
      AddFourRows(four, weights, k > 0, 3 * columns, down.data());
    }
    for (size_t i = 0; i < t.out_size; ++i) {
      const size_t from = t.flip ? t.out_size - 1 - i : i;
      const Taps::Span span = xs.spans[from];
      const float* weights = xs.weights.data() + from * xs.stride;
      const float* pixels = down.data() + 3 * (span.first - begin);
      Pixel sum = Zero();
      for (size_t k = 0; k < span.count; ++k) sum = Add(sum, Scale(Load(pixels + 3 * k), weights[k]));
      Store(row.data() + 3 * i, sum);
    }
    FinishRow(t, row.data(), t.out_size, out + y * 3 * t.out_size);
  }
}

// Pillow's resampling in 8 bits (src/libImaging/Resample.c): weights are multiples of 2^-22, sums are rounded
// halves up and clipped to a byte.
constexpr int kWeightBits = 32 - 8 - 2;

std::vector<int32_t> FixedPoint(const Taps& taps) {
  std::vector<int32_t> fixed(taps.exact.size());
  for (size_t i = 0; i < fixed.size(); ++i) fixed[i] = static_cast<int32_t>(0.5 + taps.exact[i] * (1 << kWeightBits));
  return fixed;
}

inline uint8_t RoundToByte(int32_t sum) {
  return static_cast<uint8_t>(std::clamp((sum + (1 << (kWeightBits - 1))) >> kWeightBits, 0, 255));
}

// One source row to `count` pixels, 8-bit again.
void ResampleRow(const uint8_t* pixels, const Taps& xs, const std::vector<int32_t>& fixed, size_t count, uint8_t* out) {
  for (size_t i = 0; i < count; ++i) {
    const Taps::Span span = xs.spans[i];
    const int32_t* weights = fixed.data() + i * xs.stride;
    const uint8_t* p = pixels + 3 * span.first;
    int32_t r = 0, g = 0, b = 0;
    for (size_t k = 0; k < span.count; ++k) {
      r += weights[k] * p[3 * k];
      g += weights[k] * p[3 * k + 1];
      b += weights[k] * p[3 * k + 2];
    }
    out[3 * i] = RoundToByte(r), out[3 * i + 1] = RoundToByte(g), out[3 * i + 2] = RoundToByte(b);
  }
}

#ifdef RIFFLE_X86
// The same sums, two source pixels at a time: their eight bytes side by side, spread to integers by a shuffle.
__attribute__((target("avx2"))) void ResampleRowAvx2(const uint8_t* pixels, const Taps& xs, const std::vector<int32_t>& fixed,
                                                     size_t count, uint8_t* out) {
  const __m128i first = _mm_setr_epi8(0, -1, -1, -1, 1, -1, -1, -1, 2, -1, -1, -1, -1, -1, -1, -1);
  const __m128i second = _mm_setr_epi8(3, -1, -1, -1, 4, -1, -1, -1, 5, -1, -1, -1, -1, -1, -1, -1);
  const __m256i spread = _mm256_set_m128i(second, first);
  const __m128i half = _mm_set1_epi32(1 << (kWeightBits - 1));
  for (size_t i = 0; i < count; ++i) {
    const Taps::Span span = xs.spans[i];
    const int32_t* weights = fixed.data() + i * xs.stride;
    const uint8_t* p = pixels + 3 * span.first;
    __m256i sums = _mm256_setzero_si256();
    size_t k = 0;
    for (; k + 2 <= span.count; k += 2) {
      const __m128i bytes = _mm_loadl_epi64(reinterpret_cast<const __m128i*>(p + 3 * k));
      const __m256i both = _mm256_shuffle_epi8(_mm256_broadcastsi128_si256(bytes), spread);
      const __m256i two = _mm256_set_m128i(_mm_set1_epi32(weights[k + 1]), _mm_set1_epi32(weights[k]));
      sums = _mm256_add_epi32(sums, _mm256_mullo_epi32(both, two));
    }
    __m128i sum = _mm_add_epi32(_mm256_castsi256_si128(sums), _mm256_extracti128_si256(sums, 1));
    if (k < span.count) {
      int32_t bytes;
      std::memcpy(&bytes, p + 3 * k, 4);
      sum = _mm_add_epi32(sum, _mm_mullo_epi32(_mm_shuffle_epi8(_mm_cvtsi32_si128(bytes), first), _mm_set1_epi32(weights[k])));
    }
    const __m128i rounded = _mm_srai_epi32(_mm_add_epi32(sum, half), kWeightBits);
    // Both packings clip, to 16 bits and to a byte.
    const __m128i words = _mm_packs_epi32(rounded, rounded);
    const int32_t packed = _mm_cvtsi128_si32(_mm_packus_epi16(words, words));
    std::memcpy(out + 3 * i, &packed, i + 1 < count ? 4 : 3);
  }
}
#endif

// sums += weight * row, `count` values.
RIFFLE_WIDE void AddRow(const uint8_t* row, int32_t weight, size_t count, int32_t* __restrict sums) {
  for (size_t i = 0; i < count; ++i) sums[i] += weight * row[i];
}

template <typename Out>
void ResizePillowBytes(const Transform& t, RowSource& source, Out* out, [[maybe_unused]] bool plain) {
  const size_t x0 = static_cast<size_t>(t.box_x), y0 = static_cast<size_t>(t.box_y);
  const size_t window_x = t.flip ? t.resized_w - t.window_x - t.out_size : t.window_x;
  // Places count from the box, as if it had been cut out first: Pillow's rounding sees those.
  const Taps xs = TriangleTaps(0, t.box_w, t.resized_w, window_x, t.out_size);
  const Taps ys = TriangleTaps(0, t.box_h, t.resized_h, t.window_y, t.out_size);
  const std::vector<int32_t> across = FixedPoint(xs), down = FixedPoint(ys);
  auto* resample_row = ResampleRow;
#ifdef RIFFLE_X86
  if (!plain && __builtin_cpu_supports("avx2")) resample_row = ResampleRowAvx2;
#endif

  // The last `kept` rows, resampled across; row k lies at k % kept.
  const size_t kept = ys.stride, width = 3 * t.out_size;
  std::vector<uint8_t> resampled(kept * width);
  std::vector<int32_t> sums(width);
  std::vector<float> row(width + 1);
  size_t next = ys.spans.front().first;
  for (size_t y = 0; y < t.out_size; ++y) {
    const Taps::Span rows = ys.spans[y];
    for (; next < rows.first + rows.count; ++next)
      resample_row(source.Row(y0 + next) + 3 * x0, xs, across, t.out_size, resampled.data() + next % kept * width);
    std::fill(sums.begin(), sums.end(), 0);
    for (size_t k = 0; k < rows.count; ++k)
      AddRow(resampled.data() + (rows.first + k) % kept * width, down[y * ys.stride + k], width, sums.data());
    for (size_t i = 0; i < t.out_size; ++i) {
      const size_t from = 3 * (t.flip ? t.out_size - 1 - i : i);
      for (size_t c = 0; c < 3; ++c) row[3 * i + c] = RoundToByte(sums[from + c]);
    }
    FinishRow(t, row.data(), t.out_size, out + y * width);
  }
}

}  // namespace

size_t RowsKept(const Transform& t) {
  if (t.filter == Filter::kTensorflow) return 1;
  const double support = std::max(t.box_h / static_cast<double>(t.resized_h), 1.0);
  return static_cast<size_t>(std::ceil(support)) * 2 + 1;
}

template <typename Out>
void ResizeInto(const Transform& t, RowSource& source, Out* out, bool plain) {
  switch (t.filter) {
    case Filter::kTensorflow:
      return ResizeTensorflow(t, source, out, plain);
    case Filter::kPillow:
      return ResizePillow(t, source, out);
    case Filter::kPillowBytes:
      return ResizePillowBytes(t, source, out, plain);
  }
}

template void ResizeInto(const Transform&, RowSource&, uint8_t*, bool);
template void ResizeInto(const Transform&, RowSource&, float*, bool);

}  // namespace decode

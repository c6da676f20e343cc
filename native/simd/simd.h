// One vector of floats, as wide as the instruction set the file is compiled for.
//
// Kernels are written once over `Vec` and compiled once per instruction set, each time into a namespace of
// its own (RIFFLE_ISA), with RIFFLE_LANES floats a vector. Arithmetic uses the compiler's vector types, so
// a width the hardware lacks is still correct (it becomes several narrower operations); intrinsics stand
// only where the compiler does not find the one instruction. Files including this header use nothing of the
// standard library that is not inlined by force: a shared inline function compiled for AVX-512 must not be
// the one the linker keeps for everybody.
#pragma once

#include <cstddef>
#include <cstdint>

#if defined(__x86_64__)
#include <immintrin.h>
#endif

#ifndef RIFFLE_ISA
#error "compile with -DRIFFLE_ISA=<namespace> -DRIFFLE_LANES=<floats per vector>"
#endif

#define RIFFLE_INLINE inline __attribute__((always_inline))

namespace riffle::RIFFLE_ISA {

constexpr int kLanes = RIFFLE_LANES;

typedef float Vec __attribute__((vector_size(kLanes * 4)));
typedef int32_t VecInt __attribute__((vector_size(kLanes * 4)));
typedef float Vec4 __attribute__((vector_size(16)));

// The same, at any address.
typedef float VecAnywhere __attribute__((vector_size(kLanes * 4), aligned(4), may_alias));

static RIFFLE_INLINE Vec Load(const float* p) { return *reinterpret_cast<const VecAnywhere*>(p); }
static RIFFLE_INLINE void Store(float* p, Vec v) { *reinterpret_cast<VecAnywhere*>(p) = v; }
// x - 0 is x for every x, so nothing but the broadcast is left (0 + x would turn -0 round).
static RIFFLE_INLINE Vec Set(float x) { return x - Vec{}; }

// kLanes bytes as floats.
static RIFFLE_INLINE Vec FromBytes(const uint8_t* p) {
#if RIFFLE_LANES == 16 && defined(__AVX512F__)
  return _mm512_cvtepi32_ps(_mm512_cvtepu8_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p))));
#elif RIFFLE_LANES == 8 && defined(__AVX2__)
  return _mm256_cvtepi32_ps(_mm256_cvtepu8_epi32(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(p))));
#else
  Vec v;
  for (int i = 0; i < kLanes; ++i) v[i] = static_cast<float>(p[i]);
  return v;
#endif
}

// Four rows of four floats, turned: out[j * out_stride + i] = in[i * in_stride + j].
static RIFFLE_INLINE void Transpose4(const float* in, long in_stride, float* out, long out_stride) {
  typedef float Vec4Anywhere __attribute__((vector_size(16), aligned(4), may_alias));
  const auto load = [&](long i) -> Vec4 { return *reinterpret_cast<const Vec4Anywhere*>(in + i * in_stride); };
  const Vec4 a = load(0), b = load(1), c = load(2), d = load(3);
  const Vec4 ab_low = __builtin_shufflevector(a, b, 0, 4, 1, 5), ab_high = __builtin_shufflevector(a, b, 2, 6, 3, 7);
  const Vec4 cd_low = __builtin_shufflevector(c, d, 0, 4, 1, 5), cd_high = __builtin_shufflevector(c, d, 2, 6, 3, 7);
  const auto store = [&](long j, Vec4 v) { *reinterpret_cast<Vec4Anywhere*>(out + j * out_stride) = v; };
  store(0, __builtin_shufflevector(ab_low, cd_low, 0, 1, 4, 5));
  store(1, __builtin_shufflevector(ab_low, cd_low, 2, 3, 6, 7));
  store(2, __builtin_shufflevector(ab_high, cd_high, 0, 1, 4, 5));
  store(3, __builtin_shufflevector(ab_high, cd_high, 2, 3, 6, 7));
}

// Keeps v in a register: where it is used several times the compiler would otherwise load it again each time, and
// two loads a cycle are then the limit instead of two multiply-adds.
#if (RIFFLE_LANES == 4 && defined(__SSE__)) || (RIFFLE_LANES == 8 && defined(__AVX__)) || \
    (RIFFLE_LANES == 16 && defined(__AVX512F__))
#define RIFFLE_KEEP(v) asm("" : "+v"(v))
#elif RIFFLE_LANES == 4 && defined(__aarch64__)
#define RIFFLE_KEEP(v) asm("" : "+w"(v))
#else
#define RIFFLE_KEEP(v)
#endif

// max(0, v); NaN stays NaN.
static RIFFLE_INLINE Vec Relu(Vec v) {
#if RIFFLE_LANES == 16 && defined(__AVX512F__)
  return _mm512_max_ps(_mm512_setzero_ps(), v);
#elif RIFFLE_LANES == 8 && defined(__AVX__)
  return _mm256_max_ps(_mm256_setzero_ps(), v);
#elif RIFFLE_LANES == 4 && defined(__SSE__)
  return _mm_max_ps(_mm_setzero_ps(), v);
#else
  return Vec{} > v ? Vec{} : v;
#endif
}

// 0, 1, 2, ...
static RIFFLE_INLINE VecInt LaneNumbers() {
  VecInt lanes;
  for (int i = 0; i < kLanes; ++i) lanes[i] = i;
  return lanes;
}

// v in the first `count` lanes, 0 in the others (whatever stood there, NaN too).
static RIFFLE_INLINE Vec KeepFirst(Vec v, long count) {
  const VecInt limit = VecInt{} + static_cast<int32_t>(count);
  return LaneNumbers() < limit ? v : Vec{};
}

// The first `count` lanes of v to p; what stands behind is read and written back (faster than AMD's masked store).
static RIFFLE_INLINE void StoreFirst(float* p, Vec v, long count) {
  const VecInt limit = VecInt{} + static_cast<int32_t>(count);
  Store(p, LaneNumbers() < limit ? v : Load(p));
}

// Sum of the lanes, in a fixed order.
static RIFFLE_INLINE float Sum(Vec v) {
#if RIFFLE_LANES == 16
  typedef float Half __attribute__((vector_size(32)));
  const Half h = __builtin_shufflevector(v, v, 0, 1, 2, 3, 4, 5, 6, 7) +
                 __builtin_shufflevector(v, v, 8, 9, 10, 11, 12, 13, 14, 15);
  const Vec4 q = __builtin_shufflevector(h, h, 0, 1, 2, 3) + __builtin_shufflevector(h, h, 4, 5, 6, 7);
#elif RIFFLE_LANES == 8
  const Vec4 q = __builtin_shufflevector(v, v, 0, 1, 2, 3) + __builtin_shufflevector(v, v, 4, 5, 6, 7);
#else
  const Vec4 q = v;
#endif
  return (q[0] + q[2]) + (q[1] + q[3]);
}

// Lanes folded to four, in a fixed order.
static RIFFLE_INLINE Vec4 FoldToFour(Vec v) {
#if RIFFLE_LANES == 16
  typedef float Half __attribute__((vector_size(32)));
  const Half h = __builtin_shufflevector(v, v, 0, 1, 2, 3, 4, 5, 6, 7) +
                 __builtin_shufflevector(v, v, 8, 9, 10, 11, 12, 13, 14, 15);
  return __builtin_shufflevector(h, h, 0, 1, 2, 3) + __builtin_shufflevector(h, h, 4, 5, 6, 7);
#elif RIFFLE_LANES == 8
  return __builtin_shufflevector(v, v, 0, 1, 2, 3) + __builtin_shufflevector(v, v, 4, 5, 6, 7);
#else
  return v;
#endif
}

// { Sum(a), Sum(b), Sum(c), Sum(d) }: a 4x4 transposition whose columns are added.
static RIFFLE_INLINE Vec4 SumEachOfFour(Vec a, Vec b, Vec c, Vec d) {
  const Vec4 p = FoldToFour(a), q = FoldToFour(b), r = FoldToFour(c), s = FoldToFour(d);
  const Vec4 pq_low = __builtin_shufflevector(p, q, 0, 4, 1, 5);   // p0 q0 p1 q1
  const Vec4 pq_high = __builtin_shufflevector(p, q, 2, 6, 3, 7);  // p2 q2 p3 q3
  const Vec4 rs_low = __builtin_shufflevector(r, s, 0, 4, 1, 5);
  const Vec4 rs_high = __builtin_shufflevector(r, s, 2, 6, 3, 7);
  const Vec4 pq = pq_low + pq_high;  // p0+p2 q0+q2 p1+p3 q1+q3
  const Vec4 rs = rs_low + rs_high;
  return __builtin_shufflevector(pq, rs, 0, 1, 4, 5) + __builtin_shufflevector(pq, rs, 2, 3, 6, 7);
}

// Every second element of the 2 * kLanes floats a, b: the even ones, the odd ones.
static RIFFLE_INLINE Vec Even(Vec a, Vec b) {
#if RIFFLE_LANES == 16
  return __builtin_shufflevector(a, b, 0, 2, 4, 6, 8, 10, 12, 14, 16, 18, 20, 22, 24, 26, 28, 30);
#elif RIFFLE_LANES == 8
  return __builtin_shufflevector(a, b, 0, 2, 4, 6, 8, 10, 12, 14);
#else
  return __builtin_shufflevector(a, b, 0, 2, 4, 6);
#endif
}
static RIFFLE_INLINE Vec Odd(Vec a, Vec b) {
#if RIFFLE_LANES == 16
  return __builtin_shufflevector(a, b, 1, 3, 5, 7, 9, 11, 13, 15, 17, 19, 21, 23, 25, 27, 29, 31);
#elif RIFFLE_LANES == 8
  return __builtin_shufflevector(a, b, 1, 3, 5, 7, 9, 11, 13, 15);
#else
  return __builtin_shufflevector(a, b, 1, 3, 5, 7);
#endif
}

// e0 o0 e1 o1 ...: the first kLanes of them, the last kLanes.
static RIFFLE_INLINE Vec InterleaveLow(Vec e, Vec o) {
#if RIFFLE_LANES == 16
  return __builtin_shufflevector(e, o, 0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23);
#elif RIFFLE_LANES == 8
  return __builtin_shufflevector(e, o, 0, 8, 1, 9, 2, 10, 3, 11);
#else
  return __builtin_shufflevector(e, o, 0, 4, 1, 5);
#endif
}
static RIFFLE_INLINE Vec InterleaveHigh(Vec e, Vec o) {
#if RIFFLE_LANES == 16
  return __builtin_shufflevector(e, o, 8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15, 31);
#elif RIFFLE_LANES == 8
  return __builtin_shufflevector(e, o, 4, 12, 5, 13, 6, 14, 7, 15);
#else
  return __builtin_shufflevector(e, o, 2, 6, 3, 7);
#endif
}

}  // namespace riffle::RIFFLE_ISA

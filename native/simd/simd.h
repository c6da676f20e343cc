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

#include "bf16.h"

#if defined(__x86_64__)
#include <immintrin.h>
#elif defined(__aarch64__)
#include <arm_neon.h>
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

// --- bf16: the upper half of a float. Rounding is that of VCVTNEPS2BF16: to the nearest, ties to even; numbers below the
// smallest normal one become zero, NaN stays NaN. ---

typedef uint32_t VecBits __attribute__((vector_size(kLanes * 4)));
typedef uint16_t VecHalf __attribute__((vector_size(kLanes * 2)));
typedef uint16_t VecHalfAnywhere __attribute__((vector_size(kLanes * 2), aligned(2), may_alias));

// As bits of a float whose lower half is zero. What is rounded was computed while denormals are zero (below), so none comes.
template <class Bits, class Floats>
RIFFLE_INLINE Bits RoundedBits(Floats v) {
  const Bits u = __builtin_bit_cast(Bits, v), magnitude = u & 0x7fffffffu;
  Bits rounded = u + 0x7fffu + ((u >> 16) & 1u);
  rounded = magnitude > 0x7f800000u ? u | 0x400000u : rounded;
#if !defined(__SSE__) && !defined(__aarch64__)
  rounded = magnitude < 0x800000u ? u & 0x80000000u : rounded;
#endif
  return rounded & 0xffff0000u;
}

static RIFFLE_INLINE Vec Load(const Bf16* p) {
#if RIFFLE_LANES == 16 && defined(__AVX512F__)
  return _mm512_castsi512_ps(
      _mm512_slli_epi32(_mm512_cvtepu16_epi32(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p))), 16));
#elif RIFFLE_LANES == 8 && defined(__AVX2__)
  return _mm256_castsi256_ps(
      _mm256_slli_epi32(_mm256_cvtepu16_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p))), 16));
#elif RIFFLE_LANES == 4 && defined(__SSE2__)
  return _mm_castsi128_ps(_mm_unpacklo_epi16(_mm_setzero_si128(), _mm_loadl_epi64(reinterpret_cast<const __m128i*>(p))));
#else
  const VecHalf half = *reinterpret_cast<const VecHalfAnywhere*>(p);
  return __builtin_bit_cast(Vec, __builtin_convertvector(half, VecBits) << 16);
#endif
}

// v as a bf16 and back.
static RIFFLE_INLINE Vec Rounded(Vec v) {
#if RIFFLE_LANES == 16 && defined(__AVX512BF16__)
  const __m256i half = reinterpret_cast<__m256i>(_mm512_cvtneps_pbh(v));
  return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(half), 16));
#else
  return __builtin_bit_cast(Vec, RoundedBits<VecBits>(v));
#endif
}

static RIFFLE_INLINE void Store(Bf16* p, Vec v) {
#if RIFFLE_LANES == 16 && defined(__AVX512BF16__)
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(p), reinterpret_cast<__m256i>(_mm512_cvtneps_pbh(v)));
#elif RIFFLE_LANES == 16 && defined(__AVX512F__)
  const VecBits bits = RoundedBits<VecBits>(v);
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(p),
                      _mm512_cvtepi32_epi16(_mm512_srli_epi32(__builtin_bit_cast(__m512i, bits), 16)));
#elif RIFFLE_LANES == 8 && defined(__AVX2__)
  const VecBits bits = RoundedBits<VecBits>(v);
  const __m256i upper = _mm256_srli_epi32(__builtin_bit_cast(__m256i, bits), 16);
  const __m128i half = _mm_packus_epi32(_mm256_castsi256_si128(upper), _mm256_extracti128_si256(upper, 1));
  _mm_storeu_si128(reinterpret_cast<__m128i*>(p), half);
#else
  *reinterpret_cast<VecHalfAnywhere*>(p) = __builtin_convertvector(RoundedBits<VecBits>(v) >> 16, VecHalf);
#endif
}

// Two vectors behind each other.
template <class T>
RIFFLE_INLINE void StoreTwo(T* p, Vec v0, Vec v1) {
#if RIFFLE_LANES == 16 && defined(__AVX512BF16__)
  if constexpr (sizeof(T) == 2) {
    _mm512_storeu_si512(p, reinterpret_cast<__m512i>(_mm512_cvtne2ps_pbh(v1, v0)));
    return;
  }
#endif
  Store(p, v0);
  Store(p + kLanes, v1);
}

// One number.
static RIFFLE_INLINE float ToFloat(float x) { return x; }
static RIFFLE_INLINE float ToFloat(Bf16 x) { return __builtin_bit_cast(float, static_cast<uint32_t>(x.bits) << 16); }
static RIFFLE_INLINE uint32_t RoundedBitsOf(float x) {
  const uint32_t u = __builtin_bit_cast(uint32_t, x), magnitude = u & 0x7fffffffu;
  const uint32_t rounded = magnitude > 0x7f800000u ? u | 0x400000u
                           : magnitude < 0x800000u ? u & 0x80000000u
                                                   : u + 0x7fffu + ((u >> 16) & 1u);
  return rounded & 0xffff0000u;
}
static RIFFLE_INLINE void Put(float* p, float x) { *p = x; }
static RIFFLE_INLINE void Put(Bf16* p, float x) { p->bits = static_cast<uint16_t>(RoundedBitsOf(x) >> 16); }

// Where the processor multiplies bf16, products may be made of pairs, two in a lane of 32 bits.
//
// Pair packs { lo, hi } as bf16, lane by lane. SpreadPair puts one packed pair into all lanes, as it is: its bits are not those of
// a float that arithmetic may touch. Dot is sum + a.hi * b.hi, then + a.lo * b.lo, each rounded once to the nearest; denormals
// count as zero while DenormalsAreZero lives (below).
#if RIFFLE_LANES == 16 && defined(__AVX512BF16__)
#define RIFFLE_PAIRS

static RIFFLE_INLINE Vec Pair(Vec hi, Vec lo) {
  alignas(64) static constexpr uint16_t kOrder[32] = {0, 16, 1, 17, 2,  18, 3,  19, 4,  20, 5,  21, 6,  22, 7,  23,
                                                     8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15, 31};
  const __m512i both = reinterpret_cast<__m512i>(_mm512_cvtne2ps_pbh(hi, lo));
  return _mm512_castsi512_ps(_mm512_permutexvar_epi16(_mm512_load_si512(kOrder), both));
}
static RIFFLE_INLINE Vec SpreadPair(const float* pair) { return _mm512_set1_ps(*pair); }
static RIFFLE_INLINE Vec Dot(Vec sum, Vec a, Vec b) {
  return _mm512_dpbf16_ps(sum, reinterpret_cast<__m512bh>(a), reinterpret_cast<__m512bh>(b));
}

#elif RIFFLE_LANES == 4 && defined(__ARM_FEATURE_BF16_VECTOR_ARITHMETIC)
#define RIFFLE_PAIRS

static RIFFLE_INLINE Vec Pair(Vec hi, Vec lo) {
  const uint16x8_t high = vreinterpretq_u16_bf16(vcvtq_low_bf16_f32(hi)), low = vreinterpretq_u16_bf16(vcvtq_low_bf16_f32(lo));
  return vreinterpretq_f32_u16(vzip1q_u16(low, high));
}
static RIFFLE_INLINE Vec SpreadPair(const float* pair) { return vdupq_n_f32(*pair); }

// Not BFDOT, which rounds each product and each sum to odd. BFMLALT and BFMLALB multiply the upper and the lower halves and add
// with one rounding under FPCR, as FMLA does of the same numbers in f32 (Arm ARM DDI 0487, table A1-6: "Follows
// single-precision behaviors").
static RIFFLE_INLINE Vec Dot(Vec sum, Vec a, Vec b) {
  const bfloat16x8_t x = vreinterpretq_bf16_f32(a), y = vreinterpretq_bf16_f32(b);
  return vbfmlalbq_f32(vbfmlaltq_f32(sum, x, y), x, y);
}
#endif

// While it lives, arithmetic of this thread takes denormals for zero and makes none, as VDPBF16PS always does.
class DenormalsAreZero {
 public:
#if defined(__SSE__)
  DenormalsAreZero() : before_(_mm_getcsr()) { _mm_setcsr(before_ | 0x8040); }
  ~DenormalsAreZero() { _mm_setcsr(before_); }

 private:
  const unsigned before_;
#elif defined(__aarch64__)
  DenormalsAreZero() {
    asm volatile("mrs %0, fpcr" : "=r"(before_));
    asm volatile("msr fpcr, %0" : : "r"(before_ | uint64_t{1} << 24));
  }
  ~DenormalsAreZero() { asm volatile("msr fpcr, %0" : : "r"(before_)); }

 private:
  uint64_t before_;
#endif
};

// What a task over planes of this type computes with: of bf16, the same with and without Dot.
template <class T>
struct Arithmetic {};
template <>
struct Arithmetic<Bf16> : DenormalsAreZero {};

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
template <class T>
RIFFLE_INLINE void StoreFirst(T* p, Vec v, long count) {
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

#if RIFFLE_LANES == 16
// SumEachOfFour of several rows, with the same additions in the same order, but every instruction on a whole vector.
// First: a's halves added are the result's first half, b's the second.
static RIFFLE_INLINE Vec FoldHalves(Vec a, Vec b) {
  return __builtin_shufflevector(a, b, 0, 1, 2, 3, 4, 5, 6, 7, 16, 17, 18, 19, 20, 21, 22, 23) +
         __builtin_shufflevector(a, b, 8, 9, 10, 11, 12, 13, 14, 15, 24, 25, 26, 27, 28, 29, 30, 31);
}
// Then: of a and b, of two rows each, { row, row, row, row }, quarters of a lane group.
static RIFFLE_INLINE Vec FoldQuarters(Vec a, Vec b) {
  return __builtin_shufflevector(a, b, 0, 1, 2, 3, 8, 9, 10, 11, 16, 17, 18, 19, 24, 25, 26, 27) +
         __builtin_shufflevector(a, b, 4, 5, 6, 7, 12, 13, 14, 15, 20, 21, 22, 23, 28, 29, 30, 31);
}
// Last: four columns of four rows, in each quarter the sums of one row's four columns.
static RIFFLE_INLINE Vec SumQuarters(const Vec (&v)[4]) {
  const auto fold = [](Vec a, Vec b) -> Vec {  // a0+a2 b0+b2 a1+a3 b1+b3
    return __builtin_shufflevector(a, b, 0, 16, 1, 17, 4, 20, 5, 21, 8, 24, 9, 25, 12, 28, 13, 29) +
           __builtin_shufflevector(a, b, 2, 18, 3, 19, 6, 22, 7, 23, 10, 26, 11, 27, 14, 30, 15, 31);
  };
  const Vec p = fold(v[0], v[1]), q = fold(v[2], v[3]);
  return __builtin_shufflevector(p, q, 0, 1, 16, 17, 4, 5, 20, 21, 8, 9, 24, 25, 12, 13, 28, 29) +
         __builtin_shufflevector(p, q, 2, 3, 18, 19, 6, 7, 22, 23, 10, 11, 26, 27, 14, 15, 30, 31);
}
template <int kQuarter>
RIFFLE_INLINE Vec4 Quarter(Vec v) {
  return __builtin_shufflevector(v, v, 4 * kQuarter, 4 * kQuarter + 1, 4 * kQuarter + 2, 4 * kQuarter + 3);
}
#endif

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

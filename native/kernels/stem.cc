// The stem: 3x3 stride-2 convolution of 8-bit images and 3x3 stride-2 max pooling, without ever storing the
// convolution's output (docs/adr/0005-stem-without-activation.md has the derivation).
//
// With p the 27 input values under a window, W the filters, n the number of windows of the batch:
//   statistics before any convolution: mean = W s / n, variance = diag(W G W^T) / n - mean^2,
//     with G = sum of p p^T, s = sum of p                                            (StemStatistics)
//   forward: convolution and pooling in one pass; kept are each pooling window's winner z and its place;
//   backward: dz = a g + b z + c with g nonzero only at winners, so
//     dW = a * (sum over winners of g p^T) + b * W G + c * s^T                       (StemBackward: first term)
//
// Everything runs channels-last in rows of 32 floats (the channels, or the 27 taps, padded), one image a task.
#include <utility>

#include "kernels.h"
#include "tile.h"

namespace riffle::RIFFLE_ISA {
namespace {

constexpr int kPadded = kStemPatchPadded;      // floats per position
constexpr int kPatchVecs = kPadded / kLanes;
constexpr int kUsualChannels = 24;             // of every width of the network
static_assert(kStemMaxChannels == kPadded && kStemPatchPadded == kPadded);

// So many channels are three vectors of 8, also where a vector has 16: of two such, a quarter would be padding.
#if RIFFLE_LANES == 16
typedef float HalfVec __attribute__((vector_size(kLanes * 2)));
typedef HalfVec UsualVec;
#else
typedef Vec UsualVec;
#endif
constexpr int kUsualVecs = kUsualChannels * sizeof(float) / sizeof(UsualVec);
// A convolution tile: so many positions of the output, and vectors of channels at a time. In WebAssembly it needs 12 registers of 15.
#if defined(__wasm__)
constexpr int kPositions = 4;
constexpr int kMostVectors = 2;
#else
constexpr int kPositions = kLanes == 16 ? 8 : kLanes == 8 ? 4 : 2;
constexpr int kMostVectors = kPadded;
#endif

// Rows of a ring: input rows as floats, convolution rows or patch rows.
constexpr long kRing = 4;

struct Sizes {
  long input_row;   // floats of one staged input row: one pixel of padding left, enough right
  long output_row;  // floats of one convolution or patch row
};

RIFFLE_INLINE Sizes SizesOf(const Stem& s) {
  const long positions = RoundUp(s.conv.out_w, kPositions);
  const long reach = 2 * positions + 4 > s.conv.in_w + 2 ? 2 * positions + 4 : s.conv.in_w + 2;
  return {RoundUp(3 * reach + kLanes, 16), RoundUp((positions + 1) * kPadded + kLanes, 16)};
}

// Bytes of input row y as scale * byte + shift after one pixel of zeros; zeros for rows outside the image.
void StageInputRow(const Stem& s, long image, long y, float* row, long length) {
  const long values = 3L * s.conv.in_w;
  if (y < 0 || y >= s.conv.in_h) {
    for (long i = 0; i < length; ++i) row[i] = 0.0f;
    return;
  }
  const uint8_t* pixels = s.pixels + (image * s.conv.in_h + y) * values;
  // The row after the next comes from memory while this one's windows are computed. (Behind the last image the address is
  // nobody's; asking for it is harmless.)
  for (long i = 0; i < values; i += 64) __builtin_prefetch(pixels + 2 * values + i);
  // The three channels alternate: lane i of vector v holds channel (v * kLanes + i) mod 3.
  Vec scale[3], shift[3];
  for (int v = 0; v < 3; ++v)
    for (int i = 0; i < kLanes; ++i) {
      scale[v][i] = s.input_scale[(v * kLanes + i) % 3];
      shift[v][i] = s.input_shift[(v * kLanes + i) % 3];
    }
  for (int i = 0; i < 3; ++i) row[i] = 0.0f;
  float* out = row + 3;
  long i = 0;
  for (; i + 3 * kLanes <= values; i += 3 * kLanes)
#pragma GCC unroll 3
    for (int v = 0; v < 3; ++v)
      Store(out + i + v * kLanes, FromBytes(pixels + i + v * kLanes) * scale[v] + shift[v]);
  for (; i < values; ++i) out[i] = static_cast<float>(pixels[i]) * s.input_scale[i % 3] + s.input_shift[i % 3];
  for (long j = values + 3; j < length; ++j) row[j] = 0.0f;
}

// The staged input rows of one image, in a ring; rows are staged when first asked for, in rising order.
struct InputRows {
  const Stem& stem;
  long image, length, next;  // next: the first row not staged yet
  float* ring;

  RIFFLE_INLINE InputRows(const Stem& s, long n, float* memory)
      : stem(s), image(n), length(SizesOf(s).input_row), next(-s.conv.pad_top), ring(memory) {}

  // Where the patches of convolution row `y` begin in the input rows 2y - pad + (0, 1, 2).
  RIFFLE_INLINE void Under(long y, const float* (&rows)[3]) {
    const long first = 2 * y - stem.conv.pad_top;
    for (; next <= first + 2; ++next)
      if (next >= first) StageInputRow(stem, image, next, ring + ((next + kRing) % kRing) * length, length);
    for (int k = 0; k < 3; ++k)
      rows[k] = ring + ((first + k + kRing) % kRing) * length + 3 * (1 - stem.conv.pad_left);
  }
};

// The 27 values under each window of a convolution row, a one (so products with it are sums), and zeros up to 32.
void GatherPatches(const float* const (&rows)[3], long positions, float* patches) {
  for (long x = 0; x < positions; ++x) {
    float* p = patches + x * kPadded;
#pragma GCC unroll 3
    for (int k = 0; k < 3; ++k) __builtin_memcpy(p + 9 * k, rows[k] + 6 * x, 9 * sizeof(float));
    p[kStemPatch] = 1.0f;
#pragma GCC unroll 5
    for (int i = kStemPatch + 1; i < kPadded; ++i) p[i] = 0.0f;
  }
}

// The products of every two of a patch's 28 values (27 taps and the one), each pair once, summed over positions. The 28
// are cut into blocks of a vector, the last of which is not full. A block times itself: v * (v rotated by d) for d up to half
// its size, a pair of values per lane. A block times what comes after it: v * (each later value).
// With 16 lanes that is 9 + 12 + 7 vectors of products per position, where the rows of the triangle would be 43.
constexpr int kGramValues = kStemPatch + 1;
constexpr int kGramBlocks = (kGramValues + kLanes - 1) / kLanes;
constexpr int kGramSums = kLanes == 16 ? 21 : 12;  // in registers at a time

constexpr int BlockSize(int block) {
  return (block + 1) * kLanes <= kGramValues ? kLanes : kGramValues - block * kLanes;
}
constexpr int Rotations(int block) { return BlockSize(block) / 2 + 1; }

// Vectors of products before those of a block, or of all blocks.
constexpr int GramVectors(int block = kGramBlocks) {
  int vectors = 0;
  for (int b = 0; b < block; ++b) vectors += Rotations(b) + kGramValues - b * kLanes - BlockSize(b);
  return vectors;
}

// Lane i: value (i + kBy) mod kSize.
template <int kSize, int kBy, int... kLane>
RIFFLE_INLINE Vec Rotated(Vec v, std::integer_sequence<int, kLane...>) {
  return __builtin_shufflevector(v, v, (kLane < kSize ? (kLane + kBy) % kSize : kLane)...);
}

// Of block kBlock: its rotations, if kTurns says so, and its products with the values [kBegin, kBegin + kCount).
template <int kBlock, bool kTurns, int kBegin, int kCount>
RIFFLE_INLINE void GramProducts(const float* patches, long positions, double* totals) {
  constexpr int kRotations = kTurns ? Rotations(kBlock) : 0, kSums = kRotations + kCount;
  Vec sum[kSums];
#pragma GCC unroll 32
  for (int i = 0; i < kSums; ++i) sum[i] = Vec{};
  const float* end = patches + positions * kPadded;
  for (const float* p = patches; p != end; p += kPadded) {
    Vec v = Load(p + kBlock * kLanes);
    RIFFLE_KEEP(v);
    [&]<int... kBy>(std::integer_sequence<int, kBy...>) {
      ((sum[kBy] += v * Rotated<BlockSize(kBlock), kBy>(v, std::make_integer_sequence<int, kLanes>())), ...);
    }(std::make_integer_sequence<int, kRotations>());
#pragma GCC unroll 32
    for (int i = 0; i < kCount; ++i) sum[kRotations + i] += v * Set(p[kBegin + i]);
  }
  // These sums are short; they are added up in double (filters that answer to edges cancel most of G).
  double* of_block = totals + (GramVectors(kBlock) + (kTurns ? 0 : Rotations(kBlock) + kBegin - (kBlock + 1) * kLanes)) * kLanes;
#pragma GCC unroll 32
  for (int r = 0; r < kSums; ++r)
    for (int i = 0; i < kLanes; ++i) of_block[r * kLanes + i] += sum[r][i];
}

// What is left of the products of block kBlock, and of the blocks after it, from its vector kBegin on.
template <int kBlock, bool kTurns, int kBegin>
void Gram(const float* patches, long positions, double* totals) {
  if constexpr (kBlock < kGramBlocks) {
    constexpr int kLeft = kBegin < kGramValues ? kGramValues - kBegin : 0;
    constexpr int kRoom = kGramSums - (kTurns ? Rotations(kBlock) : 0);
    constexpr int kCount = kLeft < kRoom ? kLeft : kRoom;
    GramProducts<kBlock, kTurns, kBegin, kCount>(patches, positions, totals);
    if constexpr (kCount < kLeft) {
      Gram<kBlock, false, kBegin + kCount>(patches, positions, totals);
    } else {
      Gram<kBlock + 1, true, (kBlock + 2) * kLanes>(patches, positions, totals);
    }
  }
}

// The upper triangle of gram[27][32] from the totals of its products.
void PutGram(const double* totals, double* gram) {
  const auto put = [&](int i, int j, double product) {
    const int row = i < j ? i : j, column = i < j ? j : i;
    if (row < kStemPatch) gram[row * kPadded + column] = product;
  };
  for (int block = 0; block < kGramBlocks; ++block) {
    const int first = block * kLanes, size = BlockSize(block), after = first + size;
    for (int by = 0; by < Rotations(block); ++by, totals += kLanes)
      for (int i = 0; i < size; ++i) put(first + i, first + (i + by) % size, totals[i]);
    for (int column = after; column < kGramValues; ++column, totals += kLanes)
      for (int i = 0; i < size; ++i) put(first + i, column, totals[i]);
  }
}

template <class V>
RIFFLE_INLINE V LoadAs(const float* p) {
  V v;
  __builtin_memcpy(&v, p, sizeof v);
  return v;
}

// One convolution row, channels-last: z[x][c] = sum over taps of w[tap][c] * p[x][tap], of kVectors vectors of channels
// beside kPositions positions: of 24 channels twelve accumulators with 16 registers, 24 with 32, eight in WebAssembly.
template <class V, int kVectors>
RIFFLE_INLINE void ConvolutionTile(const float* const (&rows)[3], const float* weights, float* z) {
  constexpr int kWidth = sizeof(V) / sizeof(float);
  V sum[kPositions][kVectors];
#pragma GCC unroll 8
  for (int i = 0; i < kPositions; ++i)
#pragma GCC unroll 8
    for (int v = 0; v < kVectors; ++v) sum[i][v] = V{};
  for (int k = 0; k < 3; ++k) {
    const float* p = rows[k];
    for (int t = 0; t < 9; ++t) {
      const float* w = weights + (9 * k + t) * kPadded;
      V filter[kVectors];
#pragma GCC unroll 8
      for (int v = 0; v < kVectors; ++v) filter[v] = LoadAs<V>(w + v * kWidth);
#pragma GCC unroll 8
      for (int i = 0; i < kPositions; ++i) {
        const V value = p[6 * i + t] - V{};
#pragma GCC unroll 8
        for (int v = 0; v < kVectors; ++v) sum[i][v] += value * filter[v];
      }
    }
  }
#pragma GCC unroll 8
  for (int i = 0; i < kPositions; ++i)
#pragma GCC unroll 8
    for (int v = 0; v < kVectors; ++v) __builtin_memcpy(z + i * kPadded + v * kWidth, &sum[i][v], sizeof(V));
}

// kVectors of channels at a few positions.
template <class V, int kVectors>
RIFFLE_INLINE void ConvolutionTiles(const float* const (&rows)[3], const float* weights, float* z) {
  constexpr int kTogether = kVectors < kMostVectors ? kVectors : kMostVectors, kWidth = sizeof(V) / sizeof(float);
  static_assert(kVectors % kTogether == 0);
  for (int v = 0; v < kVectors; v += kTogether) ConvolutionTile<V, kTogether>(rows, weights + v * kWidth, z + v * kWidth);
}

void ConvolutionRow(const Stem& s, const float* const (&rows)[3], float* z) {
  for (long x = 0; x < s.conv.out_w; x += kPositions) {
    const float* const at[3] = {rows[0] + 6 * x, rows[1] + 6 * x, rows[2] + 6 * x};
    if (s.channels > kUsualChannels) {
      ConvolutionTiles<Vec, kPatchVecs>(at, s.weights, z + x * kPadded);
    } else {
      ConvolutionTiles<UsualVec, kUsualVecs>(at, s.weights, z + x * kPadded);
    }
  }
}

// The part of a 3x3 window that lies inside the convolution's output.
struct PoolWindow {
  int y_begin, y_end, x_begin, x_end;
};

template <class V>
using PlacesOf = decltype(V{} > V{});

template <class V>
RIFFLE_INLINE void Compete(V value, int at, V& best, PlacesOf<V>& place) {
  const PlacesOf<V> better = value > best;
  best = better ? value : best;
  place = better ? PlacesOf<V>{} + at : place;
}

// The largest of a whole window, the first of equals; rows point at its left column.
template <class V>
RIFFLE_INLINE V WinnerInside(const float* const (&rows)[3], PlacesOf<V>& place) {
  V best = LoadAs<V>(rows[0]);
  place = PlacesOf<V>{};
#pragma GCC unroll 9
  for (int i = 1; i < 9; ++i) Compete(LoadAs<V>(rows[i / 3] + i % 3 * kPadded), i, best, place);
  return best;
}

// The same at a border.
template <class V>
V Winner(const float* const (&rows)[3], const PoolWindow& w, PlacesOf<V>& place) {
  V best = LoadAs<V>(rows[w.y_begin] + w.x_begin * kPadded);
  place = PlacesOf<V>{} + (w.y_begin * 3 + w.x_begin);
  for (int y = w.y_begin; y < w.y_end; ++y)
    for (int x = w.x_begin; x < w.x_end; ++x) Compete(LoadAs<V>(rows[y] + x * kPadded), y * 3 + x, best, place);
  return best;
}

// One window's winners of a vector of channels, to pooled and, where wanted, to places.
template <class V>
RIFFLE_INLINE void Pool(const float* const (&rows)[3], const PoolWindow* border, const float* sign, float* pooled, uint8_t* places) {
  PlacesOf<V> place;
  const V best = (border ? Winner<V>(rows, *border, place) : WinnerInside<V>(rows, place)) * LoadAs<V>(sign);
  __builtin_memcpy(pooled, &best, sizeof best);
  if (!places) return;
  typedef uint8_t Bytes __attribute__((vector_size(sizeof(V) / sizeof(float))));
  const Bytes bytes = __builtin_convertvector(place, Bytes);
  __builtin_memcpy(places, &bytes, sizeof bytes);
}

}  // namespace

namespace {

typedef uint32_t Bits4 __attribute__((vector_size(16)));
typedef uint16_t Half4 __attribute__((vector_size(8)));

RIFFLE_INLINE void PutFour(float* out, const float* in) { __builtin_memcpy(out, in, 4 * sizeof(float)); }
RIFFLE_INLINE void PutFour(Bf16* out, const float* in) {
  Vec4 v;
  __builtin_memcpy(&v, in, sizeof v);
  const Half4 half = __builtin_convertvector(RoundedBits<Bits4>(v) >> 16, Half4);
  __builtin_memcpy(out, &half, sizeof half);
}
RIFFLE_INLINE void TakeFour(const float* in, float* out) { __builtin_memcpy(out, in, 4 * sizeof(float)); }
RIFFLE_INLINE void TakeFour(const Bf16* in, float* out) {
  Half4 half;
  __builtin_memcpy(&half, in, sizeof half);
  const Bits4 bits = __builtin_convertvector(half, Bits4) << 16;
  __builtin_memcpy(out, &bits, sizeof bits);
}

}  // namespace

size_t StemScratch(const Stem& s) {
  const Sizes sizes = SizesOf(s);
  const long pooled = RoundUp(static_cast<long>(s.pool.out_w) * kPadded + kLanes, 16);
  return kRing * (sizes.input_row + sizes.output_row) + pooled;
}

void StemStatisticsTask(const StemStatistics& p, long image, float* scratch) {
  const Stem& s = p.stem;
  InputRows input(s, image, scratch);
  float* patches = scratch + kRing * input.length;
  double* gram = p.gram + image * kStemPatch * kPadded;
  for (int i = 0; i < kStemPatch * kPadded; ++i) gram[i] = 0.0;
  double totals[GramVectors() * kLanes] = {};
  for (long y = 0; y < s.conv.out_h; y += 2) {
    const long rows = Smaller(2, s.conv.out_h - y);
    for (long r = 0; r < rows; ++r) {
      const float* under[3];
      input.Under(y + r, under);
      GatherPatches(under, s.conv.out_w, patches + r * s.conv.out_w * kPadded);
    }
    Gram<0, true, kLanes>(patches, rows * s.conv.out_w, totals);
  }
  PutGram(totals, gram);
}

template <class T>
void StemForwardTask(const StemForward<T>& p, long task, float* scratch) {
  [[maybe_unused]] const Arithmetic<T> arithmetic;
  const Stem& s = p.stem;
  const long image = task / p.parts, part = task % p.parts;
  const long q_begin = s.pool.out_h * part / p.parts, q_end = s.pool.out_h * (part + 1) / p.parts;
  const Sizes sizes = SizesOf(s);
  InputRows input(s, image, scratch);
  float* ring = scratch + kRing * sizes.input_row;  // convolution rows
  float* pooled = ring + kRing * sizes.output_row;
  const long pixels = static_cast<long>(s.pool.out_h) * s.pool.out_w;
  // The first convolution row not computed yet.
  long next = 2 * q_begin - s.pool.pad_top;
  if (next < 0) next = 0;

  for (long q = q_begin; q < q_end; ++q) {
    const long y_begin = 2 * q - s.pool.pad_top;
    const long y_end = Smaller(y_begin + 3, s.conv.out_h);
    for (; next < y_end; ++next) {
      const float* rows[3];
      input.Under(next, rows);
      ConvolutionRow(s, rows, ring + next % kRing * sizes.output_row);
    }
    uint8_t* winners = p.winners ? p.winners + (image * pixels + q * s.pool.out_w) * kPadded : nullptr;
    const long y_first = y_begin < 0 ? 0 : y_begin;
    const float* rows[3];  // of the window; those outside are not read
    for (int i = 0; i < 3; ++i) rows[i] = ring + (y_begin + i + kRing) % kRing * sizes.output_row;
    for (long u = 0; u < s.pool.out_w; ++u) {
      const long x_begin = 2 * u - s.pool.pad_left;
      const bool inside = y_first == y_begin && y_end == y_begin + 3 && x_begin >= 0 && x_begin + 3 <= s.conv.out_w;
      const PoolWindow window = inside ? PoolWindow{0, 3, 0, 3}
                                       : PoolWindow{static_cast<int>(y_first - y_begin), static_cast<int>(y_end - y_begin),
                                                    x_begin < 0 ? static_cast<int>(-x_begin) : 0,
                                                    static_cast<int>(Smaller(3, s.conv.out_w - x_begin))};
      const PoolWindow* border = inside ? nullptr : &window;
      for (int c = 0; c < s.channels; c += kLanes) {
        const float* const at[3] = {rows[0] + x_begin * kPadded + c, rows[1] + x_begin * kPadded + c,
                                    rows[2] + x_begin * kPadded + c};
        float* out = pooled + u * kPadded + c;
        uint8_t* places = winners ? winners + u * kPadded + c : nullptr;
#if RIFFLE_LANES == 16
        if (c + kLanes / 2 >= s.channels) {
          Pool<HalfVec>(at, border, p.sign + c, out, places);
          break;
        }
#endif
        Pool<Vec>(at, border, p.sign + c, out, places);
      }
    }
    // Channels-last to planes, four by four.
    const long at = image * pixels + q * s.pool.out_w;
    for (int c = 0; c < s.channels; c += 4) {
      float turned[4 * 4];
      const int channels = static_cast<int>(Smaller(4, s.channels - c));
      for (long u = 0; u < s.pool.out_w; u += 4) {
        if (channels == 4 && u + 4 <= s.pool.out_w) {
          Transpose4(pooled + u * kPadded + c, kPadded, turned, 4);
          for (int i = 0; i < 4; ++i) PutFour(p.z[c + i] + at + u, turned + 4 * i);
        } else {
          for (int i = 0; i < channels; ++i)
            for (long w = u; w < Smaller(u + 4, s.pool.out_w); ++w) Put(p.z[c + i] + at + w, pooled[w * kPadded + c + i]);
        }
      }
    }
  }
}

template <class T>
void StemBackwardTask(const StemBackward<T>& p, long image, float* scratch) {
  [[maybe_unused]] const Arithmetic<T> arithmetic;
  const Stem& s = p.stem;
  const Sizes sizes = SizesOf(s);
  InputRows input(s, image, scratch);
  float* ring = scratch + kRing * sizes.input_row;  // patch rows
  float* gradients = ring + kRing * sizes.output_row;
  const long pixels = static_cast<long>(s.pool.out_h) * s.pool.out_w;
  float* dw = p.dw + image * kPadded * kPadded;
  for (int i = 0; i < kPadded * kPadded; ++i) dw[i] = 0.0f;
  long next = 0;

  for (long q = 0; q < s.pool.out_h; ++q) {
    const long y_begin = 2 * q - s.pool.pad_top;
    const long y_end = Smaller(y_begin + 3, s.conv.out_h);
    for (; next < y_end; ++next) {
      const float* rows[3];
      input.Under(next, rows);
      GatherPatches(rows, s.conv.out_w, ring + next % kRing * sizes.output_row);
    }
    const long at = image * pixels + q * s.pool.out_w;
    for (int c = 0; c < s.channels; c += 4) {
      float rows[4 * 4], turned[4 * 4];
      const int channels = static_cast<int>(Smaller(4, s.channels - c));
      for (long u = 0; u < s.pool.out_w; u += 4) {
        if (channels == 4 && u + 4 <= s.pool.out_w) {
          for (int i = 0; i < 4; ++i) TakeFour(p.g[c + i] + at + u, rows + 4 * i);
          Transpose4(rows, 4, turned, 4);
          for (int i = 0; i < 4; ++i) __builtin_memcpy(gradients + (u + i) * kPadded + c, turned + 4 * i, 4 * sizeof(float));
        } else {
          for (int i = 0; i < channels; ++i)
            for (long w = u; w < Smaller(u + 4, s.pool.out_w); ++w) gradients[w * kPadded + c + i] = ToFloat(p.g[c + i][at + w]);
        }
      }
    }
    const uint8_t* winners = p.winners + (image * pixels + q * s.pool.out_w) * kPadded;
    // Patches of a window's nine places; places in the padding never win.
    const auto places = [&](long u, const float* (&place)[9]) {
      for (int i = 0; i < 9; ++i)
        place[i] = ring + (y_begin + i / 3 + kRing) % kRing * sizes.output_row +
                   (2 * u - s.pool.pad_left + i % 3) * kPadded;
    };
    // Two windows at a time: their sums are loaded and stored once for both.
    for (long u = 0; u < s.pool.out_w; u += 2) {
      const bool both = u + 1 < s.pool.out_w;
      const float *left[9], *right[9];
      places(u, left);
      places(both ? u + 1 : u, right);
      for (int c = 0; c < s.channels; ++c) {
        const float* left_patch = left[winners[u * kPadded + c]];
        const float* right_patch = right[winners[(both ? u + 1 : u) * kPadded + c]];
        const Vec left_g = Set(gradients[u * kPadded + c]);
        const Vec right_g = Set(both ? gradients[(u + 1) * kPadded + c] : 0.0f);
        float* row = dw + c * kPadded;
#pragma GCC unroll 8
        for (int v = 0; v < kPatchVecs; ++v)
          Store(row + v * kLanes, Load(row + v * kLanes) + left_g * Load(left_patch + v * kLanes) +
                                      right_g * Load(right_patch + v * kLanes));
      }
    }
  }
}

}  // namespace riffle::RIFFLE_ISA

// What the kernels offer, the same for every instruction set: one struct of sizes and pointers per
// operation, and a table of functions.
//
// Layout. A plane is one channel of one activation for the whole batch: images * height * width numbers of type T (float, or
// Bf16), image after image, raw convolution output z. Readers see y = relu?(scale * z + shift). Planes start on 64-byte
// lines and own what lies behind their last value up to the next multiple of 128 bytes and 64 more: kernels read
// there (the values do not count) and write there (anything).
//
// Every operation is cut into tasks by its shape alone; tasks may run in any order on any thread, and
// what they leave in partial sums is combined by the caller in task order. So results do not depend on the
// number of threads.
//
// `scratch` is 64-byte aligned, private to the running thread, at least as long as the matching
// *_scratch function says (in floats), and holds anything.
#pragma once

#include <cstddef>
#include <cstdint>

#include "../simd/bf16.h"

namespace riffle {

// A plane as its readers see it.
template <class T>
struct InputPlane {
  const T* z;
  float scale, shift;
  bool relu;
};

// A plane's gradient as the convolution that made it needs it: dz = a * g + b * z + c (batch norm's gradient).
template <class T>
struct OutputGradient {
  const T* g;
  const T* z;
  float a, b, c;
};

// Where a convolution puts the gradient of one of its inputs.
template <class T>
struct InputGradient {
  T* g;
  bool accumulate;  // add to what stands there
};

// 1x1 convolution, forward: z[o] = sum over i of W[o,i] * y[i], over `columns` = images * height * width.
//
// Task t computes column blocks [r*blocks/runs, (r+1)*blocks/runs) of run r = t / row_parts, output rows of part t % row_parts.
template <class T>
struct PointwiseForward {
  long columns;
  int inputs, outputs;
  const InputPlane<T>* x;   // [inputs]
  T* const* z;       // [outputs]
  const float* weights;  // packed by pack_weights from [outputs, inputs]
  float* sums;           // [blocks][2][outputs]: sum of z, sum of z*z over the block; null: not wanted
  long block_columns;    // a multiple of 16 and of 2 * lanes
  long runs;
  int row_parts;
};

// 1x1 convolution, backward. Task t does column blocks [t*blocks/groups, (t+1)*blocks/groups) in order:
//   gx[i] (+)= mask[i] * sum over o of W[o,i] * dz[o];   sums of gx and gx * z_in;
//   dw[t][o,i] = sum over its columns of dz[o] * y[i].
template <class T>
struct PointwiseBackward {
  long columns;
  int inputs, outputs;
  const InputPlane<T>* x;            // [inputs]
  const OutputGradient<T>* dz;       // [outputs]
  const InputGradient<T>* gx;        // [inputs]; null where no input gets a gradient, a null `g` where one gets none
  const float* weights;           // packed by pack_weights from the transposed matrix [inputs, outputs]
  float* sums;                    // [blocks][2][inputs]: sum of g, sum of g * z
  float* dw;                      // [groups][padded outputs][padded inputs], see dw_rows / dw_columns
  long block_columns;
  int groups;
};

// Padding before the first row and column; output sizes say the rest. Values outside the image are y = 0.
struct Window {
  int in_h, in_w, out_h, out_w;
  int stride;  // 1 or 2; stride 1 has padding 1 and out = in
  int pad_top, pad_left;
};

// Depthwise 3x3 convolution, plane by plane (a task is neighbouring planes): z = W * y per image.
template <class T>
struct DepthwiseForward {
  int images;
  Window window;
  const InputPlane<T>* x;   // [planes]
  T* const* z;       // [planes]
  const float* weights;  // [planes][9]
  int group;             // images whose sums are added before they are put down
  float* sums;           // [planes][groups][2]: sum of z, of z*z; null: not wanted
};

// Its backward: gx (+)= mask * (flipped W * dz), sums as above and the filters' gradients per group of images.
template <class T>
struct DepthwiseBackward {
  int images;
  Window window;
  const InputPlane<T>* x;
  const OutputGradient<T>* dz;
  const InputGradient<T>* gx;  // null, or a null `g`, as above
  const float* weights;
  int group;
  float* sums;   // [planes][groups][2]: sum of g, sum of g * z
  float* dw;     // [planes][groups][9]
};

// The stem: 3x3 stride-2 convolution of 8-bit images, then 3x3 stride-2 max pooling. A task is an image.
constexpr int kStemPatch = 27;          // taps: (row, column, channel), channel fastest
constexpr int kStemPatchPadded = 32;
constexpr int kStemMaxChannels = 32;

struct Stem {
  int images;
  Window conv, pool;
  int channels;                  // outputs, at most kStemMaxChannels
  const uint8_t* pixels;         // [images][in_h][in_w][3]
  float input_scale[3], input_shift[3];  // the network sees scale * byte + shift, and 0 in the padding
  const float* weights;          // [27][32]: tap by tap, channels padded with zeros
};

// Task = image: gram[image][27][32] = sum over output positions of p p^T (p: the patch of 27 input values; columns
// from the row's own on are valid), and the sum of p in column 27.
struct StemStatistics {
  Stem stem;
  double* gram;
};

// Task t = part t % parts of the rows of image t / parts: for each pooling window the z of its winner (largest z * sign, the first in row-major order when
// equal) into planes, and its place in the window (0..8) into winners[image][out_h][out_w][32].
template <class T>
struct StemForward {
  Stem stem;               // its weights multiplied by sign
  const float* sign;       // [32]: +1, or -1 where the batch-norm scale is negative
  T* const* z;         // [channels]
  uint8_t* winners;        // null: not wanted
  int parts;
};

// Task = image: dw[image][32][32] (channel, tap) = sum over winners of g * p.
template <class T>
struct StemBackward {
  Stem stem;
  const T* const* g;   // [channels]
  const uint8_t* winners;
  float* dw;
};

// Mean over height * width of y, per image. Task = plane: features[image * stride + plane].
template <class T>
struct GlobalAverage {
  int images;
  long pixels;             // height * width
  const InputPlane<T>* x;
  float* features;
  long stride;
};

// Its backward: g = mask * gradient[image * stride + plane] / pixels; sums[plane][images][2].
template <class T>
struct GlobalAverageBackward {
  int images;
  long pixels;
  const InputPlane<T>* x;
  T* const* g;
  const float* gradient;
  long stride;
  float* sums;
};

// Rows of a against rows of b: c[i*ldc + j] = sum over k of a[i*lda + k] * b[j*ldb + k]. Rows i of [begin, end).
struct MatrixProductTransposed {
  long rows, columns, depth;
  const float* a;
  long lda;
  const float* b;
  long ldb;
  float* c;
  long ldc;
};

// c[i*ldc + j] = sum over k of a(i,k) * b[k*ldb + j], a packed by pack_weights; row tiles [begin, end).
struct MatrixProduct {
  long rows, columns, depth;
  const float* a;
  const float* b;
  long ldb;
  float* c;
  long ldc;
};

// One step of momentum SGD on elements [begin, end) (backend.ts has the formula). Decay applies to the
// elements of segments marked so; the caller calls it per segment.
struct Update {
  float* parameters;
  float* momentum;
  float* averages;
  const float* gradients;
  float learning_rate, momentum_factor, weight_decay, average_decay;
  bool nesterov;
};

// The kernels that read or write planes.
template <class T>
struct PlaneKernels {
  // Packs a matrix of rows x columns (element r*row_stride + c*column_stride) as row tiles read it, in
  // packed_size(rows, columns) floats: tiles of tile_rows rows, missing rows zero.
  void (*pack_weights)(const float* matrix, long rows, long columns, long row_stride, long column_stride,
                       float* packed);
  size_t (*packed_size)(long rows, long columns);

  void (*pointwise_forward)(const PointwiseForward<T>&, long task, float* scratch);
  size_t (*pointwise_forward_scratch)(int inputs, int outputs, long block_columns);
  void (*pointwise_backward)(const PointwiseBackward<T>&, long task, float* scratch);
  size_t (*pointwise_backward_scratch)(int inputs, int outputs, long block_columns);

  void (*depthwise_forward)(const DepthwiseForward<T>&, long begin, long end, float* scratch);
  void (*depthwise_backward)(const DepthwiseBackward<T>&, long task, float* scratch);

  void (*stem_forward)(const StemForward<T>&, long task, float* scratch);
  void (*stem_backward)(const StemBackward<T>&, long task, float* scratch);

  void (*global_average)(const GlobalAverage<T>&, long task);
  void (*global_average_backward)(const GlobalAverageBackward<T>&, long task);

  // GFLOP of the pointwise products done in a burst of `rounds` rounds, for measuring this core's peak.
  double (*product_burst)(long rounds, float* sink);
};

struct KernelTable {
  const char* name;
  int lanes;
  int tile_rows;                 // rows of a packed weight tile
  long (*dw_rows)(int outputs);  // padded sizes of PointwiseBackward::dw
  long (*dw_columns)(int inputs);
  size_t (*depthwise_scratch)(const Window&);
  void (*stem_statistics)(const StemStatistics&, long task, float* scratch);
  size_t (*stem_scratch)(const Stem&);

  PlaneKernels<float> f32;
  PlaneKernels<Bf16> bf16;  // products by multiply-adds of floats

  void (*matrix_product_transposed)(const MatrixProductTransposed&, long begin, long end);
  void (*matrix_product)(const MatrixProduct&, long tile_begin, long tile_end);

  void (*update)(const Update&, long begin, long end);
  // out[i] = sum over p < count of parts[p * stride + i], in double and in order, for i in [begin, end).
  void (*sum_parts)(const float* parts, long count, long stride, long begin, long end, float* out);
  double (*sum_of_squares)(const float* x, long count);
  bool (*all_finite)(const float* x, long count);
};

// One per compiled instruction set; null when this build has none.
const KernelTable* KernelsBaseline();
const KernelTable* KernelsAvx2();
const KernelTable* KernelsAvx512();
const KernelTable* KernelsWide();  // 16 lanes on whatever the machine has: tests the AVX-512 shapes

// The same bits as the table's bf16, its products made of pairs; null when this build has none.
const PlaneKernels<Bf16>* DotKernelsAvx512();
const PlaneKernels<Bf16>* DotKernelsNeon();

}  // namespace riffle

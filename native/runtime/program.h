// A program as the TypeScript compiler hands it over (src/program/program.ts says what the fields mean), read from
// one flat array of numbers (src/backends/engine/encode.ts writes it) and checked: every plane, offset and size
// lies inside what was announced, so kernels need no checks of their own.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "../kernels/kernels.h"

namespace riffle {

// How all planes of a program are stored.
enum class Storage { kF32 = 0, kBf16 = 1 };

struct PlaneInfo {
  long height, width;
  bool relu;
  int64_t value, gradient;  // bytes from the arena's beginning, -1 for none
  long gamma, beta;      // offsets into the parameters
};

// Each has a row in the table of layers/layer.cc.
enum class StepKind { kStem = 0, kPointwise = 1, kDepthwise = 2, kHead = 3 };
constexpr int kStepKinds = 4;

// How a step's forward pass is cut into tasks, 0 where its layer is to choose. No cut changes a bit of what is computed.
struct Cut {
  long block_columns = 0;  // pointwise steps that do not train: those that do add sums block by block
  int row_parts = 0;       // likewise
  long runs = 0;           // tasks of neighbouring blocks (pointwise) or planes (depthwise); runs beyond their number are empty
};
constexpr long kCutColumns = 32;  // blocks are a multiple of this on every instruction set
constexpr long kWidestBlock = 2048;

struct StepInfo {
  StepKind kind;
  std::vector<int> inputs;        // planes; empty for the stem
  std::vector<char> accumulates;  // by input
  int first = 0, count = 0;       // output planes; none for the head
  long weights = 0, bias = -1;    // offsets into the parameters
  bool trains = false;            // else it runs as inference does, and nothing goes backward through it
  Cut cut;
  Window window{};                // depthwise; the stem's convolution
  Window pooling{};               // the stem's
  int channel_order[3] = {0, 1, 2};
  float input_scale[3] = {}, input_shift[3] = {};
};

struct Segment {
  long begin, end;
  bool decay;
  double rate;  // what the learning rate is multiplied by
};

// Neighbouring gradients that are final once the backward of a step is done.
struct Bucket {
  long begin, end;
  int after_step;
};

struct ProgramInfo {
  bool training;
  int batch, image_size, classes;
  long parameter_count;
  long trained_count;  // of their beginning; what is frozen lies behind
  double epsilon, momentum;
  bool keeps_statistics;  // what trains is normalised by the moving statistics too, and these stay
  int64_t arena;  // bytes
  Storage storage = Storage::kF32;
  std::vector<PlaneInfo> planes;
  std::vector<Segment> segments;
  std::vector<StepInfo> steps;
  std::vector<Bucket> buckets;  // tile what trains, in backward's order
  int first_training = 0;  // step; the number of steps where none trains
  int frozen_planes = 0;   // the first so many, which have no gradient
};

// Throws std::invalid_argument naming the field.
ProgramInfo DecodeProgram(const double* words, size_t count);

// Bytes that a plane owns from its place on: values and what kernels may touch behind them. program.ts has the same.
int64_t PlaneBytes(const PlaneInfo& plane, int batch, Storage storage);

// What lies so many bytes into the arena.
template <class T>
T* AtByte(float* arena, int64_t bytes) {
  return reinterpret_cast<T*>(reinterpret_cast<uintptr_t>(arena) + static_cast<uintptr_t>(bytes));
}

// What steps of several kinds are checked for.
void ExpectOutputSize(const ProgramInfo& program, const StepInfo& step, long height, long width);
void ExpectInputSize(const ProgramInfo& program, const StepInfo& step, long height, long width);
void ExpectWeights(const ProgramInfo& program, const StepInfo& step, long count);

}  // namespace riffle

// What the layers of a running program share: its memory, threads and batch-norm tables.
#pragma once

#include <algorithm>
#include <vector>

#include "../kernels/kernels.h"
#include "arena.h"
#include "batch_norm.h"
#include "program.h"
#include "thread_pool.h"

namespace riffle {

inline long RoundUp(long n, long to) { return (n + to - 1) / to * to; }

// Elements per task of elementwise passes over the parameters.
constexpr long kChunk = 1 << 15;

inline long Chunks(long elements) { return (elements + kChunk - 1) / kChunk; }

// Calls body(begin, end, segment) for what each segment has of a chunk of the parameters.
template <class Body>
void ForEachSegment(const ProgramInfo& program, long chunk, const Body& body) {
  for (const Segment& s : program.segments) {
    const long begin = std::max(s.begin, chunk * kChunk), end = std::min(s.end, (chunk + 1) * kChunk);
    if (begin < end) body(begin, end, s);
  }
}

// Floats that layers ask for when they are made. Packed weights stay, so they add up; the others are in use by one
// layer at a time, so the largest wish holds.
struct Needs {
  size_t packed = 0, scratch = 0, partials = 0, filters = 0;

  // Where the packed weights begin.
  size_t Packed(size_t floats) {
    const size_t at = packed;
    packed += RoundUp(static_cast<long>(floats), 16);
    return at;
  }
  void Scratch(size_t floats) { scratch = std::max(scratch, floats); }
  void Partials(size_t floats) { partials = std::max(partials, floats); }
  void Filters(size_t floats) { filters = std::max(filters, floats); }
};

class Workspace {
 public:
  Workspace(ProgramInfo program, const KernelTable& kernels, int threads);
  Workspace(const Workspace&) = delete;
  Workspace& operator=(const Workspace&) = delete;

  // Once, when all layers have said what they need.
  void Allocate(const Needs& needs);

  const ProgramInfo program;
  const KernelTable& kernels;
  ThreadPool pool;
  BatchNorm norm;

  float* arena() const { return arena_.data(); }
  float* packed() const { return packed_.data(); }
  float* partials() const { return partials_.data(); }  // sums of tasks
  float* filters() const { return filters_.data(); }    // filter gradients of tasks
  float* scratch(int thread) const { return scratch_.data() + static_cast<size_t>(thread) * scratch_floats_; }
  // Null where the plane has none.
  float* plane(int id, bool gradient) const;
  bool HasGradient(int plane) const { return program.planes[plane].gradient >= 0; }
  // Whether anything goes backward through a step, or it makes dW only.
  bool PassesGradients(const StepInfo& step) const {
    return std::any_of(step.inputs.begin(), step.inputs.end(), [this](int i) { return HasGradient(i); });
  }

  // A step's planes as kernels want them; until the next call.
  const InputPlane* Inputs(const StepInfo& step);
  float* const* Outputs(const StepInfo& step);
  const OutputGradient* OutputGradients(const StepInfo& step, const Weights& weights);
  // Null where no input has one; else an input without has a null place.
  const InputGradient* InputGradients(const StepInfo& step);

  // Sums of g and g * z over each input, from partials [inputs][groups][2].
  void SumInputGradients(const StepInfo& step, long groups);

  // Of the call at hand: [batch, image_size, image_size, 3], and [batch, features] or null.
  const uint8_t* images = nullptr;
  const float* dropout_mask = nullptr;

  std::vector<float> logits, dlogits;  // [batch, classes]

 private:
  Arena arena_, packed_, scratch_, partials_, filters_;
  size_t scratch_floats_ = 0;
  std::vector<InputPlane> inputs_;
  std::vector<float*> outputs_;
  std::vector<OutputGradient> output_gradients_;
  std::vector<InputGradient> input_gradients_;
};

}  // namespace riffle

// What the layers of a running program share: its memory, threads and batch-norm tables.
#pragma once

#include <algorithm>
#include <tuple>
#include <type_traits>
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
  // Kernels for planes of this type.
  template <class T>
  const PlaneKernels<T>& planes() const {
    if constexpr (std::is_same_v<T, float>) return kernels.f32;
    else return kernels.bf16;
  }
  // Null where the plane has none.
  template <class T>
  T* plane(int id, bool gradient) const {
    const int64_t offset = gradient ? program.planes[id].gradient : program.planes[id].value;
    return offset < 0 ? nullptr : AtByte<T>(arena(), offset);
  }
  bool HasGradient(int plane) const { return program.planes[plane].gradient >= 0; }
  // Whether anything goes backward through a step, or it makes dW only.
  bool PassesGradients(const StepInfo& step) const {
    return std::any_of(step.inputs.begin(), step.inputs.end(), [this](int i) { return HasGradient(i); });
  }

  // A step's planes as kernels want them; until the next call. Those of a program that does not train are made once: with a
  // single picture making them took as long as a layer, and all threads but one waited for it.
  template <class T>
  const InputPlane<T>* Inputs(const StepInfo& step) {
    std::vector<InputPlane<T>>& out = Of<T>().inputs[IndexOf(step)];
    if (!program.training && !out.empty()) return out.data();
    out.clear();
    for (int i : step.inputs) out.push_back({plane<T>(i, false), norm.scale(i), norm.shift(i), program.planes[i].relu});
    return out.data();
  }
  // The scale or shift of a plane has changed.
  void ForgetInputs() {
    std::apply([](auto&... of) { (..., std::ranges::for_each(of.inputs, [](auto& inputs) { inputs.clear(); })); }, tables_);
  }
  template <class T>
  T* const* Outputs(const StepInfo& step) {
    std::vector<T*>& out = Of<T>().outputs[IndexOf(step)];
    if (!out.empty()) return out.data();
    for (int i = step.first; i < step.first + step.count; ++i) out.push_back(plane<T>(i, false));
    return out.data();
  }
  template <class T>
  const OutputGradient<T>* OutputGradients(const StepInfo& step, const Weights& weights) {
    std::vector<OutputGradient<T>>& out = Of<T>().output_gradients;
    out.clear();
    int i = step.first;
    for (const auto& [a, b, c] : norm.OutputGradients(step, weights)) {
      out.push_back({plane<T>(i, true), plane<T>(i, false), static_cast<float>(a), static_cast<float>(b), static_cast<float>(c)});
      ++i;
    }
    return out.data();
  }
  // Null where no input has one; else an input without has a null place.
  template <class T>
  const InputGradient<T>* InputGradients(const StepInfo& step) {
    if (!PassesGradients(step)) return nullptr;
    std::vector<InputGradient<T>>& out = Of<T>().input_gradients;
    out.clear();
    for (size_t i = 0; i < step.inputs.size(); ++i) out.push_back({plane<T>(step.inputs[i], true), step.accumulates[i] != 0});
    return out.data();
  }

  // Sums of g and g * z over each input, from partials [inputs][groups][2].
  void SumInputGradients(const StepInfo& step, long groups);

  // Of the call at hand: [batch, image_size, image_size, 3], and [batch, features] or null.
  const uint8_t* images = nullptr;
  const float* dropout_mask = nullptr;

  std::vector<float> logits, dlogits;  // [batch, classes]

 private:
  Arena arena_, packed_, scratch_, partials_, filters_;
  size_t scratch_floats_ = 0;
  template <class T>
  struct Tables {
    explicit Tables(size_t steps) : inputs(steps), outputs(steps) {}
    std::vector<std::vector<InputPlane<T>>> inputs;  // of each step
    std::vector<std::vector<T*>> outputs;
    std::vector<OutputGradient<T>> output_gradients;
    std::vector<InputGradient<T>> input_gradients;
  };
  template <class T>
  Tables<T>& Of() {
    return std::get<Tables<T>>(tables_);
  }
  size_t IndexOf(const StepInfo& step) const { return &step - program.steps.data(); }

  std::tuple<Tables<float>, Tables<Bf16>> tables_;
};

}  // namespace riffle

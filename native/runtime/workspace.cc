#include "workspace.h"

#include <utility>

namespace riffle {

Workspace::Workspace(ProgramInfo program, const KernelTable& kernels, int threads)
    : program(std::move(program)), kernels(kernels), pool(threads), norm(this->program) {
  const ProgramInfo& p = this->program;
  logits.assign(static_cast<size_t>(p.batch) * p.classes, 0);
  if (p.training) dlogits.assign(logits.size(), 0);
}

void Workspace::Allocate(const Needs& needs) {
  scratch_floats_ = RoundUp(static_cast<long>(needs.scratch), 1024) + 16;
  arena_ = Arena(program.arena / sizeof(float) + 64);
  packed_ = Arena(needs.packed);
  partials_ = Arena(needs.partials + 64);
  filters_ = Arena(program.training ? needs.filters : 0);
  scratch_ = Arena(scratch_floats_ * pool.threads());
}

float* Workspace::plane(int id, bool gradient) const {
  const long offset = gradient ? program.planes[id].gradient : program.planes[id].value;
  return offset < 0 ? nullptr : AtByte(arena(), offset);
}

const InputPlane* Workspace::Inputs(const StepInfo& s) {
  inputs_.resize(s.inputs.size());
  const PlaneInfo* planes = program.planes.data();
  InputPlane* out = inputs_.data();
  for (int i : s.inputs) *out++ = {AtByte(arena(), planes[i].value), norm.scale(i), norm.shift(i), planes[i].relu};
  return inputs_.data();
}

float* const* Workspace::Outputs(const StepInfo& s) {
  outputs_.clear();
  for (int i = 0; i < s.count; ++i) outputs_.push_back(plane(s.first + i, false));
  return outputs_.data();
}

const OutputGradient* Workspace::OutputGradients(const StepInfo& s, const Weights& weights) {
  norm.OutputGradients(s, arena(), weights, output_gradients_);
  return output_gradients_.data();
}

const InputGradient* Workspace::InputGradients(const StepInfo& s) {
  if (!PassesGradients(s)) return nullptr;
  input_gradients_.clear();
  for (size_t i = 0; i < s.inputs.size(); ++i)
    input_gradients_.push_back({plane(s.inputs[i], true), s.accumulates[i] != 0});
  return input_gradients_.data();
}

void Workspace::SumInputGradients(const StepInfo& s, long groups) {
  for (long i = 0; i < static_cast<long>(s.inputs.size()); ++i) {
    if (!HasGradient(s.inputs[i])) continue;
    double sum = 0, dot = 0;
    for (long g = 0; g < groups; ++g) {
      sum += partials()[(i * groups + g) * 2];
      dot += partials()[(i * groups + g) * 2 + 1];
    }
    norm.SetGradientSums(s.inputs[i], sum, dot);
  }
}

}  // namespace riffle

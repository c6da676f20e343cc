#include "workspace.h"

#include <utility>

namespace riffle {

Workspace::Workspace(ProgramInfo program, const KernelTable& kernels, int threads)
    : program(std::move(program)), kernels(kernels), pool(threads), norm(this->program), tables_(this->program.steps.size(), this->program.steps.size()) {
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

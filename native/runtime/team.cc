#include "team.h"

#include <algorithm>
#include <cstdint>

namespace riffle {

Team::Team(const ProgramInfo& program, const KernelTable& kernels, int threads, const State& state)
    : pool_(threads), seconds_(program.steps.size(), 0) {
  for (int t = 0; t < threads; ++t) members_.push_back(std::make_unique<Executor>(program, kernels, 1, state));
}

void Team::Prepare() {
  pool_.Run(static_cast<long>(members_.size()), [&](long t, int) { members_[t]->Prepare(); });
}

void Team::Infer(const uint8_t* images, long count, float* logits) {
  const ProgramInfo& p = program();
  const long portion = p.batch, image = 3L * p.image_size * p.image_size;
  std::vector<std::vector<double>> seconds(members_.size(), std::vector<double>(p.steps.size(), 0));
  pool_.Run((count + portion - 1) / portion, [&](long t, int thread) {
    Executor& member = *members_[thread];
    const long first = t * portion;
    member.Infer(images + first * image, static_cast<int>(std::min(portion, count - first)),
                 logits + first * p.classes);
    for (size_t i = 0; i < p.steps.size(); ++i) seconds[thread][i] += member.seconds(false)[i];
  });
  for (size_t i = 0; i < p.steps.size(); ++i) {
    double total = 0;
    for (const std::vector<double>& each : seconds) total += each[i];
    seconds_[i] = total / static_cast<double>(members_.size());
  }
}

}  // namespace riffle

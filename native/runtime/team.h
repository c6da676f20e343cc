// Inference on many images: threads take a few images each and run them through the whole network alone.
//
// No thread waits for another between steps, and a few images' activations stay in a core's cache. Every image is
// computed for itself, so logits are the same bits as in any other batch.
#pragma once

#include <memory>
#include <vector>

#include "executor.h"

namespace riffle {

class Team {
 public:
  // `program` is for the few images that a thread takes at a time; `state` as for an executor.
  Team(const ProgramInfo& program, const KernelTable& kernels, int threads, const State& state);

  const ProgramInfo& program() const { return members_[0]->program(); }

  void Prepare();

  // Logits [count, classes]; `images` holds whole portions: count rounded up to the program's batch.
  void Infer(const uint8_t* images, long count, float* logits);

  ThreadPool& pool() { return pool_; }

  // Seconds of each step in the last Infer, over all portions, divided among the threads.
  const std::vector<double>& seconds() const { return seconds_; }

 private:
  ThreadPool pool_;
  std::vector<std::unique_ptr<Executor>> members_;  // one a thread, each on its own
  std::vector<double> seconds_;
};

}  // namespace riffle

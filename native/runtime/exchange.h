// What adds the gradients of several processes; the engine knows no more of them. Every process makes the same calls in the
// same order.
#pragma once

#include "thread_pool.h"

namespace riffle {

class Exchange {
 public:
  virtual ~Exchange() = default;
  // Processes.
  virtual int size() const = 0;
  // Zeroed memory for the gradients of this process, where the exchange wants them in a place of its own; else null. It
  // lives as long as the exchange.
  virtual float* GradientMemory() { return nullptr; }

  // A step begins: its sums are multiplied by `scale`. Between this and Finish the pool is the exchange's to use, too, in
  // the calls made to it.
  virtual void Begin(ThreadPool& pool, float scale) = 0;
  // The gradients of a bucket are final here; the exchange may begin to send them, and to write their sum there.
  virtual void Ready(int bucket, float* begin, long count) = 0;
  // Moves on what is under way; cheap, and called often while a step computes.
  virtual void Progress() = 0;
  // Returns when the gradients of all buckets are the sums, and adds up `tail`, which is not scaled. Sums are made in a binary
  // tree over the processes' numbers, so they are the same bits everywhere.
  virtual void Finish(double* tail, long count) = 0;
  // Returns when no other process reads the sums here any more: before they are changed, other than by the next step.
  virtual void AwaitTaken() {}
  // The sum of `values` at once, in the same order.
  virtual void Sum(double* values, long count) = 0;
};

// out[i] = scale * the sum of parts[p][i] over p, in a binary tree: neighbours are added, an odd last one goes up as it is.
// `out` may be one of the parts.
template <class T>
void SumParts(const T* const* parts, int count, long begin, long end, T scale, T* out);

}  // namespace riffle

// What the threads of a run do while some of its steps are profiled: spans of time, each of one layer in one direction, or
// of what lies between layers.
//
// The thread that calls a step is in one span at any time of it, those in which it waits for the others among them. Another
// thread's span is its part in one job of the pool, from its first task to the end of its last. Memory is there before the
// first step, and each thread writes its own. Times are nanoseconds of the steady clock.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "clock.h"

namespace riffle {

// In the order of `doings` (src/backends/engine/engine.ts).
enum class Doing : int32_t { kForward, kBackward, kPacking, kLoss, kSumming, kExchanging, kChecking, kUpdating };

struct TimeSpan {
  int64_t begin = 0, end = 0;
  int32_t layer = -1;
  Doing doing = Doing::kForward;
  bool waits = false;  // for the other threads' part in it
};

class Profile {
 public:
  // Room for so many spans a thread; those beyond it are counted, not kept.
  Profile(int threads, size_t room);

  // By the caller's thread, between jobs: it goes over to something else, or out of the step; it has waited since `begin`.
  void Enter(Doing doing, int layer);
  void Leave();
  void Waited(int64_t begin);

  // By another thread that has a task in hand: its part in the job begins. Whoever joins moves the end on.
  TimeSpan* Join(int thread);

  const std::vector<TimeSpan>& spans(int thread) const { return threads_[thread].spans; }
  int threads() const { return static_cast<int>(threads_.size()); }
  long lost() const;

 private:
  struct alignas(64) Buffer {
    std::vector<TimeSpan> spans;
    TimeSpan spare;
    long lost = 0;
  };

  TimeSpan* Add(int thread, const TimeSpan& span);

  std::vector<Buffer> threads_;
  TimeSpan* current_ = nullptr;  // of the caller's thread
  TimeSpan place_;               // what the job at hand is of
};

}  // namespace riffle

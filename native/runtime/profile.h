// What the threads of a run do while some of its steps are profiled: spans of time, each of one layer in one direction, or
// of what lies between layers.
//
// The thread that calls a step is in one span at any time of it, those in which it waits for the others among them. Another
// thread's span is its part in one job of the pool, from its first task to the end of its last. Memory is there before the
// first step, and each thread writes its own. Times are nanoseconds of the steady clock.
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <vector>

namespace riffle {

// In the order of `doings` (src/backends/native/engine.ts).
enum class Doing : int32_t { kForward, kBackward, kPacking, kLoss, kSumming, kExchanging, kChecking, kUpdating };

struct TimeSpan {
  int64_t begin = 0, end = 0;
  int32_t layer = -1;
  Doing doing = Doing::kForward;
  bool waits = false;  // for the other threads' part in it
};

inline int64_t SteadyNow() {
  return std::chrono::duration_cast<std::chrono::nanoseconds>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

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

// Reading or decoding of some pictures, on a thread of libuv's pool; numbers of threads are given as they come.
struct PictureJob {
  int64_t begin, end;
  int thread;
  bool decodes;
};

// One record of the process: from StartPictureJobs on, until TakePictureJobs hands it over. `room` as above.
void StartPictureJobs(size_t room);
std::vector<PictureJob> TakePictureJobs();

// Its life is a job, where they are recorded.
class PictureJobSpan {
 public:
  explicit PictureJobSpan(bool decodes);
  ~PictureJobSpan();
  PictureJobSpan(const PictureJobSpan&) = delete;
  PictureJobSpan& operator=(const PictureJobSpan&) = delete;

 private:
  const bool decodes_;
  const int64_t begin_;  // 0 where nothing is recorded
};

}  // namespace riffle

// A fixed set of threads that run numbered tasks. Which thread runs which task is left to chance; what a task
// computes must not depend on it.
#pragma once

#include <atomic>
#include <cstdint>
#include <stdexcept>

#include "profile.h"
#include "threads.h"

namespace riffle {

// The system has no thread to give; those that were started have ended.
class ThreadStartError : public std::runtime_error {
 public:
  ThreadStartError(int started, int wanted);
};

class ThreadPool {
 public:
  // `threads` counts the caller of Run, so 1 starts no thread. From `refused` on the system gives none (tests). Throws
  // ThreadStartError.
  explicit ThreadPool(int threads, int refused = 0);
  ~ThreadPool();
  ThreadPool(const ThreadPool&) = delete;
  ThreadPool& operator=(const ThreadPool&) = delete;

  // What the caller's thread does between its tasks: something short, such as moving messages on.
  void set_between(void (*call)(void* data), void* data) {
    between_ = call;
    between_data_ = data;
  }

  // Where spans go while steps are profiled, else null. To be set while nothing runs.
  void set_profile(Profile* profile) { profile_ = profile; }
  // For a profile: what the caller's thread does from here on, and that it does nothing of a step any more.
  void Enter(Doing doing, int layer = -1) {
    if (profile_) profile_->Enter(doing, layer);
  }
  void Leave() {
    if (profile_) profile_->Leave();
  }

  int threads() const { return crew_.size() + 1; }

  // Calls body(task, thread) for every task in [0, tasks), thread in [0, threads()); returns when all are done. What a
  // task throws is thrown here, one of them if several do; other tasks may or may not have run then. One call at a time.
  template <class Body>
  void Run(long tasks, const Body& body) {
    if (tasks <= 0) return;
    if (tasks == 1 || crew_.size() == 0) {
      for (long t = 0; t < tasks; ++t) {
        body(t, 0);
        if (between_) between_(between_data_);
      }
      return;
    }
    Start(tasks, [](const void* b, long task, int thread) { (*static_cast<const Body*>(b))(task, thread); },
          &body);
  }

 private:
  using Call = void (*)(const void* body, long task, int thread);

  void Start(long tasks, Call call, const void* body);
  void Work(int thread);
  bool TakeTasks(int thread);
  void End();
#if defined(__wasm__)
  // By a thread whose task ended it: the job is given up.
  void Fail();
#endif

  // generation (24 bits) | number of tasks (20) | next task (20): one fetch_add hands out a task together with
  // the job it belongs to, so a late thread never mistakes one job for the next.
  std::atomic<uint64_t> ticket_{0};
  std::atomic<long> unfinished_{0};
  Call call_ = nullptr;
  const void* body_ = nullptr;
  void (*between_)(void* data) = nullptr;
  void* between_data_ = nullptr;
  Profile* profile_ = nullptr;
  FirstError error_;  // of the job at hand

  std::atomic<bool> stop_{false};
  Sleepers sleepers_;
  Crew crew_;
};

}  // namespace riffle

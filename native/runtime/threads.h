// What the pool needs of the system: threads, ways to wait without burning a core, and a way for an error in a task to reach
// the caller of a job. In WebAssembly threads are JavaScript's workers, each an instance on the same memory, which come when
// they come (native/wasm/threads.cc), and waiting is that of the memory itself.
#pragma once

#include <atomic>
#include <stdexcept>

#if defined(__wasm__)
#include <cstdint>

#include "fail.h"
#else
#include <condition_variable>
#include <exception>
#include <mutex>
#include <thread>
#include <utility>
#include <vector>
#endif

namespace riffle {

inline void Pause() {
#if defined(__x86_64__)
  __builtin_ia32_pause();
#elif defined(__aarch64__)
  asm volatile("yield");
#endif
}

#if defined(__wasm__)

static_assert(sizeof(std::atomic<long>) == 4 && sizeof(std::atomic<int>) == 4, "what the memory waits for has 32 bits");

// A function of its own, which needs nothing after the wait: as V8 11.3 (Node 20) compiles at first, before it optimises, one of the
// locals of the function that waits is 0 afterwards, such as a worker's number or the place that is waited on.
template <class T>
[[gnu::noinline]] void Wait(std::atomic<T>& value, T seen) {
  __builtin_wasm_memory_atomic_wait32(reinterpret_cast<int*>(&value), static_cast<int>(seen), -1);
}

inline void AwaitChange(std::atomic<long>& value, long seen) { Wait(value, seen); }
inline void NotifyOne(std::atomic<long>& value) { __builtin_wasm_memory_atomic_notify(reinterpret_cast<int*>(&value), 1); }

class Sleepers {
 public:
  template <class Ready>
  void SleepUntil(const Ready& ready) {
    count_.fetch_add(1);
    for (;;) {
      const int seen = calls_.load();
      if (ready()) break;
      Wait(calls_, seen);
    }
    count_.fetch_sub(1);
  }
  void Wake() {
    if (count_.load() == 0) return;
    calls_.fetch_add(1);
    __builtin_wasm_memory_atomic_notify(reinterpret_cast<int*>(&calls_), UINT32_MAX);
  }

 private:
  std::atomic<int> count_{0}, calls_{0};
};

// An error in a task ends its thread in JavaScript; a worker's is told by ThreadPool::Fail.
class FirstError {
 public:
  template <class Body>
  void Catch(const Body& body) {
    body();
  }
  void Set() { failed_.store(true); }
  void Rethrow() {
    if (failed_.load()) Refuse("a thread of the engine failed");
  }

 private:
  std::atomic<bool> failed_{false};
};

// Threads 1 .. threads - 1 are wanted; those that come run `work`, and `fail` if that does not end well.
class Crew {
 public:
  using Work = void (*)(void* of, int thread);
  using Fail = void (*)(void* of);

  void Start(int threads, Work work, Fail fail, void* of);
  // Returns when none of them is at work any more; none begins after.
  void Join();
  int size() const { return size_; }

 private:
  int size_ = 0;
};

#else

// Returns when the value is another than `seen`; who changes it notifies.
inline void AwaitChange(std::atomic<long>& value, long seen) { value.wait(seen); }
inline void NotifyOne(std::atomic<long>& value) { value.notify_one(); }

// Threads that have nothing to do.
class Sleepers {
 public:
  template <class Ready>
  void SleepUntil(const Ready& ready) {
    std::unique_lock lock(mutex_);
    count_.fetch_add(1);
    wake_.wait(lock, ready);
    count_.fetch_sub(1);
  }
  // What `ready` looks at has changed.
  void Wake() {
    if (count_.load() == 0) return;
    { std::lock_guard lock(mutex_); }
    wake_.notify_all();
  }

 private:
  std::atomic<int> count_{0};
  std::mutex mutex_;
  std::condition_variable wake_;
};

// What the tasks of a job throw, on whichever thread: one of them if several do.
class FirstError {
 public:
  template <class Body>
  void Catch(const Body& body) {
    try {
      body();
    } catch (...) {
      std::lock_guard lock(mutex_);
      if (!thrown_) thrown_ = std::current_exception();
    }
  }
  void Rethrow() {
    if (thrown_) std::rethrow_exception(std::exchange(thrown_, nullptr));
  }

 private:
  std::exception_ptr thrown_;
  std::mutex mutex_;
};

class Crew {
 public:
  using Work = void (*)(void* of, int thread);

  // Threads 1 .. threads - 1, each of which runs `work`. From `refused` on, unless that is 0, the system gives none (tests).
  // Throws std::system_error; those that were started are left to Join.
  void Start(int threads, int refused, Work work, void* of) {
    threads_.reserve(threads > 1 ? threads - 1 : 0);
    for (int t = 1; t < threads; ++t) {
      if (t == refused) throw std::system_error(std::make_error_code(std::errc::resource_unavailable_try_again));
      threads_.emplace_back(work, of, t);
    }
  }
  void Join() {
    for (std::thread& t : threads_) t.join();
  }
  int size() const { return static_cast<int>(threads_.size()); }

 private:
  std::vector<std::thread> threads_;
};

#endif

}  // namespace riffle

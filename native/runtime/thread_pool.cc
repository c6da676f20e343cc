#include "thread_pool.h"

#include <algorithm>
#include <string>
#include <system_error>

namespace riffle {
namespace {

constexpr int kTaskBits = 20;
constexpr uint64_t kTaskMask = (uint64_t{1} << kTaskBits) - 1;

// Steps follow each other within microseconds, a wake-up costs more: look about this often before sleeping.
constexpr int kSpins = 4000;

}  // namespace

ThreadStartError::ThreadStartError(int started, int wanted)
    : std::runtime_error("only " + std::to_string(started) + " of " + std::to_string(wanted) + " threads could be started") {}

ThreadPool::ThreadPool(int threads, int refused) {
  const auto work = [](void* pool, int thread) { static_cast<ThreadPool*>(pool)->Work(thread); };
#if defined(__wasm__)
  static_cast<void>(refused);
  crew_.Start(threads, work, [](void* pool) { static_cast<ThreadPool*>(pool)->Fail(); }, this);
#else
  try {
    crew_.Start(threads, refused, work, this);
  } catch (const std::system_error&) {
    const int started = this->threads();
    End();
    throw ThreadStartError(started, threads);
  } catch (...) {
    End();
    throw;
  }
#endif
}

ThreadPool::~ThreadPool() { End(); }

void ThreadPool::End() {
  stop_.store(true);
  sleepers_.Wake();
  crew_.Join();
}

#if defined(__wasm__)
void ThreadPool::Fail() {
  error_.Set();
  unfinished_.store(0);
  NotifyOne(unfinished_);
}
#endif

void ThreadPool::Start(long tasks, Call call, const void* body) {
  // More tasks than a ticket can count are run in several jobs.
  for (long first = 0; first < tasks; first += static_cast<long>(kTaskMask >> 1)) {
    const long count = std::min(tasks - first, static_cast<long>(kTaskMask >> 1));
    struct Shifted {
      Call call;
      const void* body;
      long first;
    } shifted{call, body, first};
    call_ = [](const void* b, long task, int thread) {
      const auto* s = static_cast<const Shifted*>(b);
      s->call(s->body, s->first + task, thread);
    };
    body_ = &shifted;
    unfinished_.store(count, std::memory_order_relaxed);
    const uint64_t generation = (ticket_.load(std::memory_order_relaxed) >> (2 * kTaskBits)) + 1;
    ticket_.store(generation << (2 * kTaskBits) | static_cast<uint64_t>(count) << kTaskBits);
    sleepers_.Wake();
    TakeTasks(0);
    const int64_t idle = profile_ ? SteadyNow() : 0;
    for (int spins = 0; spins < kSpins && unfinished_.load(std::memory_order_acquire) > 0; ++spins) Pause();
    // Somebody else has the other cores: sleep rather than burn this one.
    for (long left; (left = unfinished_.load(std::memory_order_acquire)) > 0;) AwaitChange(unfinished_, left);
    if (profile_) profile_->Waited(idle);
    error_.Rethrow();
  }
}

// Runs tasks of the job at hand until none is left; whether it ran any.
bool ThreadPool::TakeTasks(int thread) {
  bool any = false;
  TimeSpan* part = nullptr;
  uint64_t job = 0;  // that it is a part of
  for (;;) {
    const uint64_t seen = ticket_.load(std::memory_order_acquire);
    if ((seen & kTaskMask) >= (seen >> kTaskBits & kTaskMask)) return any;
    const uint64_t ticket = ticket_.fetch_add(1, std::memory_order_acq_rel);
    const uint64_t task = ticket & kTaskMask;
    if (task >= (ticket >> kTaskBits & kTaskMask)) return any;
    // This task is unfinished, so its job is still the current one.
    const bool is_profiled = profile_ && thread != 0;
    if (is_profiled && (!part || job != ticket >> (2 * kTaskBits))) {
      part = profile_->Join(thread);
      job = ticket >> (2 * kTaskBits);
    }
    error_.Catch([&] {
      call_(body_, static_cast<long>(task), thread);
      if (thread == 0 && between_) between_(between_data_);
    });
    if (is_profiled) part->end = SteadyNow();  // now, for once the job has ended it may be read
    if (unfinished_.fetch_sub(1, std::memory_order_acq_rel) == 1 && thread != 0) NotifyOne(unfinished_);
    any = true;
  }
}

void ThreadPool::Work(int thread) {
  const auto waiting = [this] {
    const uint64_t seen = ticket_.load();
    return (seen & kTaskMask) < (seen >> kTaskBits & kTaskMask);
  };
  int spins = 0;
  while (!stop_.load(std::memory_order_relaxed)) {
    if (TakeTasks(thread)) {
      spins = 0;
    } else if (++spins < kSpins) {
      Pause();
    } else {
      sleepers_.SleepUntil([&] { return stop_.load() || waiting(); });
      spins = 0;
    }
  }
}

}  // namespace riffle

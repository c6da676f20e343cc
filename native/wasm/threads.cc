// The pool's threads are workers that JavaScript starts: each instantiates the same module on the same memory, points the stack
// at memory of its own and calls work(thread), which returns when the pool ends.
#include "../runtime/threads.h"

#include <atomic>
#include <cstdint>

#include "host.h"

namespace riffle {
namespace {

// The one pool here that has more than the caller's thread: a run is an instance, and a team's members are alone.
Crew::Work crew_work;
Crew::Fail crew_fail;
void* crew_of;

enum Stage { kNotBegun, kAtWork, kEnded };
std::atomic<int> stage{kNotBegun};
std::atomic<int> at_work{0}, arrived{0};
int came = 0;  // of those that arrived, before the pool's end waited for them

void Leave() { at_work.fetch_sub(1); }

}  // namespace

void Crew::Start(int threads, Work work, Fail fail, void* of) {
  if (threads <= 1) return;
  size_ = threads - 1;
  crew_work = work;
  crew_fail = fail;
  crew_of = of;
  stage.store(kAtWork);
  __builtin_wasm_memory_atomic_notify(reinterpret_cast<int*>(&stage), UINT32_MAX);
}

void Crew::Join() {
  if (size_ == 0) return;
  stage.store(kEnded);
  // Read before the wait: who is counted here is at work or has been, so none of them is when nobody is.
  came = arrived.load();
  while (at_work.load() > 0) Pause();
}

}  // namespace riffle

using namespace riffle;

RIFFLE_EXPORT("work") void Work(int thread) {
  at_work.fetch_add(1);
  arrived.fetch_add(1);
  while (stage.load() == kNotBegun) Wait(stage, static_cast<int>(kNotBegun));
  if (stage.load() == kAtWork) crew_work(crew_of, thread);
  Leave();
}

// In place of the return of a work() that threw.
RIFFLE_EXPORT("fail") void Fail() {
  if (stage.load() == kAtWork) crew_fail(crew_of);
  Leave();
}

// Once the pool has ended, how many have come and gone: those that JavaScript started and are not among them may still come.
RIFFLE_EXPORT("arrived") int Arrived() { return came; }

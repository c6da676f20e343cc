// A loaded program as JavaScript holds it, for the files of this folder.
#pragma once

#include <atomic>
#include <memory>

#include "../runtime/exchange.h"
#include "../runtime/executor.h"
#include "../runtime/job_thread.h"
#include "../runtime/state.h"
#include "../runtime/team.h"
#include "../runtime/training_step.h"
#include "door.h"

namespace riffle {

// Calls to infer that may be under way: one that runs, and one that waits, so that the engine need not wait for JavaScript in
// between.
constexpr int kMostInferring = 2;

// An executor, or for inference on many images a team, and the state it works on. `busy` refuses overlapping calls: they
// would share planes. Calls to infer take turns, on a thread of their own.
struct Run {
  std::unique_ptr<Exchange> exchange;  // null where this process trains alone
  std::shared_ptr<State> state;  // shared with the arrays that JavaScript reads it by
  std::unique_ptr<Executor> executor;
  std::unique_ptr<TrainingStep> step;  // of a training program
  std::unique_ptr<Team> team;
  std::unique_ptr<Profile> profile;  // while steps are profiled
  bool loaded = false;
  std::atomic<bool> busy{false};
  std::atomic<int> inferring{0};
  JobThread inference;

  const ProgramInfo& program() const { return team ? team->program() : executor->program(); }
};

// Marks the run busy from the call until its work has ended, whichever way.
class Turn {
 public:
  explicit Turn(Run& run) : run_(&run) { run.busy = true; }
  ~Turn() { run_->busy = false; }
  Turn(const Turn&) = delete;
  Turn& operator=(const Turn&) = delete;
  Run* operator->() const { return run_; }

 private:
  Run* run_;
};

// The same of a call to infer, from the call until it has ended.
class InferenceTurn {
 public:
  explicit InferenceTurn(Run& run) : run_(&run) { ++run.inferring; }
  ~InferenceTurn() { --run_->inferring; }
  InferenceTurn(const InferenceTurn&) = delete;
  InferenceTurn& operator=(const InferenceTurn&) = delete;

  // Runs `work` when no other call does, on the run's thread for it.
  template <class Work>
  void Take(const Work& work) {
    run_->inference.Run([&] { work(*run_); });
  }

 private:
  Run* run_;
};

// The run of a value, not closed; and not busy either; or with room for another call to infer. Throw std::invalid_argument.
Run& OpenRun(napi_env env, napi_value value);
Run& IdleRun(napi_env env, napi_value value);
Run& InferringRun(napi_env env, napi_value value);

// For what only a single executor can do: train, run one step, show its planes.
Run& SingleRun(napi_env env, napi_value value);

}  // namespace riffle

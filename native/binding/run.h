// A loaded program as JavaScript holds it, for the files of this folder.
#pragma once

#include <atomic>
#include <memory>

#include "../runtime/exchange.h"
#include "../runtime/executor.h"
#include "../runtime/state.h"
#include "../runtime/team.h"
#include "../runtime/training_step.h"
#include "door.h"

namespace riffle {

// An executor, or for inference on many images a team, and the state it works on. `busy` refuses overlapping calls: they
// would share planes.
struct Run {
  std::unique_ptr<Exchange> exchange;  // null where this process trains alone
  std::shared_ptr<State> state;  // shared with the arrays that JavaScript reads it by
  std::unique_ptr<Executor> executor;
  std::unique_ptr<TrainingStep> step;  // of a training program
  std::unique_ptr<Team> team;
  std::unique_ptr<Profile> profile;  // while steps are profiled
  bool loaded = false;
  std::atomic<bool> busy{false};

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

// The run of a value, not closed; and not busy either. Throw std::invalid_argument.
Run& OpenRun(napi_env env, napi_value value);
Run& IdleRun(napi_env env, napi_value value);

// For what only a single executor can do: train, run one step, show its planes.
Run& SingleRun(napi_env env, napi_value value);

}  // namespace riffle

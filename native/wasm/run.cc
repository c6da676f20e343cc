// A run of a program: the only one of this instance. src/backends/wasm/run.ts has the other side; it has checked what it hands
// over, words errors, and puts arrays into memory from allocate(). What is refused here, or fails, ends the instance.
#include <cstring>
#include <memory>
#include <vector>

#include "../runtime/executor.h"
#include "../runtime/fail.h"
#include "../runtime/isa.h"
#include "../runtime/peak.h"
#include "../runtime/state.h"
#include "../runtime/team.h"
#include "../runtime/training_step.h"
#include "host.h"

namespace riffle {
namespace {

// An executor, or for inference on many pictures a team, and the state it works on.
struct Run {
  std::unique_ptr<State> state;
  std::unique_ptr<Executor> executor;
  std::unique_ptr<TrainingStep> step;  // of a training program
  std::unique_ptr<Team> team;
  std::unique_ptr<Profile> profile;  // while steps are profiled

  const ProgramInfo& program() const { return team ? team->program() : executor->program(); }
};

// Never destroyed: an instance goes with its memory.
Run* run;

// Numbers of a call's answer.
double answer[16];

ThreadPool& Pool() { return run->executor->pool(); }

// In the order of `BatchPlaces` (src/backends/wasm/run.ts).
ShardBatch BatchFrom(const void* const* places) {
  ShardBatch b{};
  b.images = static_cast<const uint8_t*>(places[0]);
  b.targets.labels = static_cast<const int32_t*>(places[1]);
  b.dropout_mask = static_cast<const float*>(places[2]);
  b.targets.weights = static_cast<const float*>(places[3]);
  b.targets.mixed_labels = static_cast<const int32_t*>(places[4]);
  b.targets.shares = static_cast<const float*>(places[5]);
  return b;
}

LossSettings LossFrom(const double* l) {
  return {.label_smoothing = l[0], .weight_decay = l[1], .scale = l[2], .of_logit = l[3] != 0};
}

UpdateSettings UpdateFrom(const double* u) {
  return {.learning_rate = u[0], .momentum = u[1], .weight_decay = u[2], .average_decay = u[3], .nesterov = u[4] != 0};
}

}  // namespace
}  // namespace riffle

using namespace riffle;

RIFFLE_EXPORT("answer") double* Answer() { return answer; }

RIFFLE_EXPORT("createRun") void CreateRun(const double* words, size_t count, int threads, bool as_team) {
  ProgramInfo program = DecodeProgram(words, count);
  const KernelTable& kernels = ChooseKernels("");
  if (as_team && program.training) Refuse("a training program is run by one executor");
  run = new Run();
  run->state = std::make_unique<State>(program);
  if (as_team) {
    run->team = std::make_unique<Team>(program, kernels, threads, *run->state);
  } else {
    run->executor = std::make_unique<Executor>(std::move(program), kernels, threads, *run->state);
    if (run->program().training) run->step = std::make_unique<TrainingStep>(*run->executor, nullptr);
  }
}

// Ends the workers' work().
RIFFLE_EXPORT("endThreads") void EndThreads() {
  if (run) (run->team ? run->team->pool() : run->executor->pool()).~ThreadPool();
}

// An array of StateArray; and how many floats it has.
RIFFLE_EXPORT("stateArray") float* StateArrayAt(int which) { return run->state->array(static_cast<StateArray>(which)); }
RIFFLE_EXPORT("stateSize") size_t StateSizeOf(int which) { return StateSize(run->program(), static_cast<StateArray>(which)); }

// An inference run takes the state into use.
RIFFLE_EXPORT("prepare") void Prepare() {
  if (run->team) {
    run->team->Prepare();
  } else {
    run->executor->Prepare();
  }
}

// One shard of a step, then, unless `update` is null or the step is not finite, the update. Answers the numbers of a
// row (engine.ts) and whether a loop of steps ends here. Computes only where `computes_only` says so.
RIFFLE_EXPORT("trainShard")
void TrainShard(const void* const* batch, const double* loss, const double* update, int index, int count, bool computes_only) {
  StepResult r;
  if (computes_only) {
    r = run->step->Compute(BatchFrom(batch), LossFrom(loss), 0, 1);
  } else {
    std::vector<UpdateSettings> updates;
    if (update) updates.push_back(UpdateFrom(update));
    r = run->step->Run({BatchFrom(batch)}, LossFrom(loss), updates, index, count).at(0);
  }
  const double row[] = {r.cross_entropy,
                        r.decay_loss,
                        static_cast<double>(r.correct1),
                        static_cast<double>(r.correct5),
                        r.finite ? 1.0 : 0.0,
                        static_cast<double>(r.stops),
                        static_cast<double>(r.failures),
                        r.exchange_seconds,
                        r.scale.scale,
                        static_cast<double>(r.scale.good),
                        static_cast<double>(r.scale.bad),
                        static_cast<double>(r.scale.consecutive),
                        index + 1 == count && run->step->Ends(r) ? 1.0 : 0.0};
  std::memcpy(answer, row, sizeof row);
}

RIFFLE_EXPORT("setLossScale") void SetLossScale(int kind, double scale, double good, double bad, double consecutive) {
  run->step->set_loss_scale({.kind = static_cast<LossScaling>(kind),
                             .scale = static_cast<float>(scale),
                             .good = static_cast<long>(good),
                             .bad = static_cast<long>(bad),
                             .consecutive = static_cast<long>(consecutive)});
}

RIFFLE_EXPORT("applyUpdate") void ApplyUpdateOf(const double* update) { run->step->Update(UpdateFrom(update)); }

RIFFLE_EXPORT("abandonStep") void AbandonStep() { run->step->Abandon(); }

RIFFLE_EXPORT("requestStop") void RequestStop() { run->step->RequestStop(); }

RIFFLE_EXPORT("infer") void Infer(const uint8_t* images, int count, float* logits) {
  if (run->team) {
    run->team->Infer(images, count, logits);
  } else {
    run->executor->Infer(images, count, logits);
  }
}

RIFFLE_EXPORT("logits") const float* Logits() { return run->executor->logits(); }

RIFFLE_EXPORT("features") int Features() { return static_cast<int>(run->executor->features()); }

RIFFLE_EXPORT("map") void Map(const int32_t* planes, int count, int images, int view, float* out) {
  run->executor->ReadMap(planes, count, images, static_cast<MapView>(view), out);
}

// Answers the cross-entropy and the decay loss of the last step forward, else zeros.
RIFFLE_EXPORT("runTime") void RunTime(int time, const void* const* places, const double* settings) {
  const ShardBatch batch = BatchFrom(places);
  LossSettings loss = LossFrom(settings);
  loss.dropout_mask = batch.dropout_mask;
  const StepResult r = run->executor->RunTime(time, batch.images, batch.targets, loss);
  answer[0] = r.cross_entropy;
  answer[1] = r.decay_loss;
}

RIFFLE_EXPORT("seconds") const double* SecondsOf(bool backward) {
  return (run->team ? run->team->seconds() : run->executor->seconds(backward)).data();
}

RIFFLE_EXPORT("startProfile") void StartProfile(size_t room) {
  run->profile = std::make_unique<Profile>(Pool().threads(), room);
  Pool().set_profile(run->profile.get());
}

// Ends it; answers how many spans were lost.
RIFFLE_EXPORT("endProfile") void EndProfile() {
  Pool().set_profile(nullptr);
  answer[0] = static_cast<double>(run->profile->lost());
}

// Of a thread its spans, each [begin, end, layer or -1, Doing, waits], into `out`; returns how many there are. Without `out`
// it only counts.
RIFFLE_EXPORT("profiled") size_t Profiled(int thread, double* out) {
  const std::vector<TimeSpan>& spans = run->profile->spans(thread);
  for (size_t i = 0; out && i < spans.size(); ++i) {
    const TimeSpan& s = spans[i];
    const double row[] = {static_cast<double>(s.begin), static_cast<double>(s.end), static_cast<double>(s.layer),
                          static_cast<double>(s.doing), s.waits ? 1.0 : 0.0};
    std::memcpy(out + 5 * i, row, sizeof row);
  }
  return spans.size();
}

// Answers GFLOP/s and GB/s; the instance has no run then.
RIFFLE_EXPORT("measurePeak") void MeasurePeakOf(int threads) {
  const Peak peak = MeasurePeak(ChooseKernels(""), Storage::kF32, threads);
  answer[0] = peak.gflops;
  answer[1] = peak.copy_gigabytes;
}

// Runs: programs loaded, trained, used for inference; and what the machine can do. src/backends/engine/engine.ts has the
// other side.
#include <chrono>
#include <cstring>
#include <memory>
#include <stdexcept>
#include <string>

#include "../runtime/isa.h"
#include "../runtime/peak.h"
#include "../runtime/picture_jobs.h"
#include "addon.h"
#include "loss_scale_numbers.h"
#include "ranks.h"
#include "run.h"

#if defined(__clang__)
#define RIFFLE_COMPILER "Clang " __clang_version__
#elif defined(__GNUC__)
#define RIFFLE_COMPILER "GCC " __VERSION__
#else
#define RIFFLE_COMPILER "an unknown compiler"
#endif

namespace riffle {

namespace {

constexpr napi_type_tag kRunTag = {0x5269666c65527531ULL, 0x9c1f3b7a2d4e6f80ULL};

int Threads(napi_env env, napi_value value) { return static_cast<int>(Number(env, value, 1, 1024, "threads")); }

constexpr size_t kUpdateNumbers = 5;

UpdateSettings UpdateFrom(const double* u) {
  return {.learning_rate = u[0], .momentum = u[1], .weight_decay = u[2], .average_decay = u[3], .nesterov = u[4] != 0};
}

LossSettings LossFrom(napi_env env, napi_value value) {
  const double* l = Array<double>(env, value, napi_float64_array, 4, "loss");
  return {.label_smoothing = l[0], .weight_decay = l[1], .scale = l[2], .of_logit = l[3] != 0};
}

// [batch], each one of the program's classes.
const int32_t* LabelsFrom(napi_env env, const ProgramInfo& p, napi_value value, const char* name) {
  const int32_t* labels = Array<int32_t>(env, value, napi_int32_array, p.batch, name);
  for (int i = 0; i < p.batch; ++i)
    if (labels[i] < 0 || labels[i] >= p.classes)
      throw std::invalid_argument("label " + std::to_string(labels[i]) + " of sample " + std::to_string(i) +
                                  " is not one of " + std::to_string(p.classes) + " classes");
  return labels;
}

// A batch as the program wants it: [images, labels, dropout mask | null, weights | null, mixed labels | null, shares | null],
// of mixed labels and shares both or none. What it points to is added to `held`.
ShardBatch BatchFrom(napi_env env, const Executor& executor, napi_value value, std::vector<napi_value>& held) {
  const ProgramInfo& p = executor.program();
  const size_t batch = p.batch;
  if (ArrayLength(env, value) != 6) throw std::invalid_argument("a batch has six arrays, or null in their place");
  napi_value arrays[6];
  for (uint32_t i = 0; i < 6; ++i) held.push_back(arrays[i] = Element(env, value, i));
  const auto floats = [&](int i, size_t length, const char* name) {
    return IsNullish(env, arrays[i]) ? nullptr : Array<float>(env, arrays[i], napi_float32_array, length, name);
  };
  ShardBatch b{};
  b.images = Array<uint8_t>(env, arrays[0], napi_uint8_array, batch * p.image_size * p.image_size * 3, "images");
  b.targets.labels = LabelsFrom(env, p, arrays[1], "labels");
  b.dropout_mask = floats(2, batch * executor.features(), "dropout mask");
  b.targets.weights = floats(3, batch, "weights");
  if (!IsNullish(env, arrays[4])) b.targets.mixed_labels = LabelsFrom(env, p, arrays[4], "mixed labels");
  b.targets.shares = floats(5, batch, "shares");
  if (!b.targets.shares != !b.targets.mixed_labels) throw std::invalid_argument("mixed labels have their shares beside them");
  return b;
}

// createRun(words: Float64Array, threads: number, isa: string, team: boolean, exchange: string, synchronised: boolean,
// products: string): object. As a team each
// thread runs the (inference) program alone, on portions of its batch. `exchange` says how a training program adds its gradients
// to those of other ranks: "none", "window", "messages" or "overlapped"; `synchronised` makes one batch norm of all ranks' batches;
// `products` is "dot", "unpack" or "". All of its state is zero.
napi_value CreateRun(napi_env env, napi_callback_info info) {
  return Guard(env, [&] {
    const auto args = Arguments(env, info, 7);
    const Span words = TypedArray(env, args[0], napi_float64_array, "program");
    const int threads = Threads(env, args[1]);
    ProgramInfo program = DecodeProgram(static_cast<const double*>(words.data), words.length);
    const KernelTable& kernels = ChooseKernels(Text(env, args[2]), Text(env, args[6]));
    const bool team = Boolean(env, args[3]);
    if (team && program.training) throw std::invalid_argument("a training program is run by one executor");
    auto run = std::make_unique<Run>();
    run->exchange = MakeExchange(Text(env, args[4]), program);
    run->state = std::make_shared<State>(program, run->exchange ? run->exchange->GradientMemory() : nullptr);
    if (team) {
      run->team = std::make_unique<Team>(program, kernels, threads, *run->state);
    } else {
      run->executor = std::make_unique<Executor>(std::move(program), kernels, threads, *run->state);
      if (Boolean(env, args[5])) run->executor->norm().Synchronise(run->exchange.get());
      if (run->program().training) run->step = std::make_unique<TrainingStep>(*run->executor, run->exchange.get());
    }
    napi_value object;
    Check(env, napi_create_object(env, &object));
    Check(env, napi_wrap(env, object, run.get(), [](napi_env, void* data, void*) { delete static_cast<Run*>(data); },
                         nullptr, nullptr));
    run.release();
    Check(env, napi_type_tag_object(env, object, &kRunTag));
    return object;
  });
}

// closeRun(run): ends its threads and frees its memory, the state's when nobody looks at it any more.
napi_value CloseRun(napi_env env, napi_callback_info info) {
  return Guard(env, [&] {
    Run& run = IdleRun(env, Arguments(env, info, 1)[0]);
    run.step.reset();
    run.executor.reset();
    run.team.reset();
    run.state.reset();
    return Undefined(env);
  });
}

// stateOf(run): Float32Array[5] in StateArray's order, the run's own memory. To be asked for once: V8 wants one owner of a
// piece of memory.
napi_value StateOf(napi_env env, napi_callback_info info) {
  return Guard(env, [&] {
    const Run& run = SingleRun(env, Arguments(env, info, 1)[0]);
    if (!run.program().training) throw std::invalid_argument("an inference program carries no state of training");
    std::vector<napi_value> arrays;
    for (int i = 0; i < kStateArrays; ++i) {
      const StateArray which = static_cast<StateArray>(i);
      const size_t floats = StateSize(run.program(), which);
      auto owner = std::make_unique<std::shared_ptr<State>>(run.state);
      napi_value buffer, array;
      Check(env, napi_create_external_arraybuffer(
                     env, run.state->array(which), floats * sizeof(float),
                     [](napi_env, void*, void* owner) { delete static_cast<std::shared_ptr<State>*>(owner); }, owner.get(),
                     &buffer));
      owner.release();
      Check(env, napi_create_typedarray(env, napi_float32_array, floats, buffer, 0, &array));
      arrays.push_back(array);
    }
    return MakeArray(env, arrays);
  });
}

// writeState(run, ...arrays: (Float32Array | null)[5]): Promise<void>. In StateArray's order; what is given is copied.
napi_value WriteState(napi_env env, napi_callback_info info) {
  return Guard(env, [&] {
    const auto args = Arguments(env, info, 1 + kStateArrays);
    Run& run = IdleRun(env, args[0]);
    struct Copy {
      float* own;
      const float* theirs;
      size_t floats;
    };
    std::vector<Copy> copies;
    for (int i = 0; i < kStateArrays; ++i) {
      if (IsNullish(env, args[1 + i])) continue;
      const StateArray which = static_cast<StateArray>(i);
      const size_t floats = StateSize(run.program(), which);
      float* own = run.state->array(which);
      if (!own) throw std::invalid_argument("a program that infers has parameters and statistics only");
      const float* theirs = Array<float>(env, args[1 + i], napi_float32_array, floats, "an array of the state");
      if (theirs != own) copies.push_back({own, theirs, floats});
    }
    auto turn = std::make_shared<Turn>(run);
    return Promise(
        env, {args[0], args[1], args[2], args[3], args[4], args[5]},
        [turn, copies] {
          for (const Copy& c : copies) std::memcpy(c.own, c.theirs, c.floats * sizeof(float));
          if ((*turn)->program().training) return;
          if ((*turn)->team) {
            (*turn)->team->Prepare();
          } else {
            (*turn)->executor->Prepare();
          }
          (*turn)->loaded = true;
        },
        Undefined);
  });
}

// trainSteps(run, batches[] (BatchFrom), loss [labelSmoothing, weightDecay, scale, which a step has of its own], updates [5 each], index, count):
// Promise<[crossEntropy, decayLoss, correct1, correct5, finite, stops, failures, exchangeSeconds, scale, good, bad, consecutive][]>.
// Batches of consecutive shards, of which this process runs `count` in a step, the first being shard `index`. A row for each step;
// the n-th of the updates is of the n-th step that is finite. Without updates one shard is computed only.
napi_value TrainSteps(napi_env env, napi_callback_info info) {
  return Guard(env, [&] {
    const auto args = Arguments(env, info, 6);
    Run& run = SingleRun(env, args[0]);
    const ProgramInfo& p = run.program();
    if (!p.training) throw std::invalid_argument("an inference program cannot train");
    const int count = static_cast<int>(Number(env, args[5], 1, 65536, "count of shards"));
    const int index = static_cast<int>(Number(env, args[4], 0, count - 1, "shard"));
    const uint32_t batches = ArrayLength(env, args[1]);
    if (batches == 0) throw std::invalid_argument("a step has batches");
    std::vector<napi_value> held = {args[0]};
    std::vector<ShardBatch> shards;
    for (uint32_t i = 0; i < batches; ++i)
      shards.push_back(BatchFrom(env, *run.executor, Element(env, args[1], i), held));
    const LossSettings loss = LossFrom(env, args[2]);
    const bool updating = !IsNullish(env, args[3]);
    if (!updating && (batches != 1 || count != 1)) throw std::invalid_argument("only a step of one shard goes without its update");
    std::vector<UpdateSettings> updates;
    if (updating) {
      const Span all = TypedArray(env, args[3], napi_float64_array, "updates");
      const double* u = static_cast<const double*>(all.data);
      if (all.length != kUpdateNumbers * ((index + batches) / count))
        throw std::invalid_argument("an update for each whole step is expected");
      for (size_t i = 0; i < all.length; i += kUpdateNumbers) updates.push_back(UpdateFrom(u + i));
    }
    auto results = std::make_shared<std::vector<StepResult>>();
    auto turn = std::make_shared<Turn>(run);
    return Promise(
        env, held,
        [turn, shards, loss, updating, updates, results, index, count] {
          TrainingStep& step = *(*turn)->step;
          if (updating) *results = step.Run(shards, loss, updates, index, count);
          else results->push_back(step.Compute(shards[0], loss, 0, 1));
        },
        [results](napi_env e) {
          std::vector<napi_value> rows;
          for (const StepResult& r : *results)
            rows.push_back(MakeNumbers(
                e, {r.cross_entropy, r.decay_loss, static_cast<double>(r.correct1), static_cast<double>(r.correct5),
                    r.finite ? 1.0 : 0.0, static_cast<double>(r.stops), static_cast<double>(r.failures), r.exchange_seconds,
                    r.scale.scale, static_cast<double>(r.scale.good), static_cast<double>(r.scale.bad),
                    static_cast<double>(r.scale.consecutive)}));
          return MakeArray(e, rows);
        });
  });
}

// setLossScale(run, [kind, scale, good, bad, consecutive]): of the steps that follow.
napi_value SetLossScale(napi_env env, napi_callback_info info) {
  return Guard(env, [&] {
    const auto args = Arguments(env, info, 2);
    Run& run = SingleRun(env, args[0]);
    if (!run.step) throw std::invalid_argument("an inference program has no steps of training");
    run.step->set_loss_scale(LossScaleFrom(Array<double>(env, args[1], napi_float64_array, 5, "loss scale")));
    return Undefined(env);
  });
}

// applyUpdate(run, update): Promise<void>
napi_value ApplyUpdateTo(napi_env env, napi_callback_info info) {
  return Guard(env, [&] {
    const auto args = Arguments(env, info, 2);
    Run& run = SingleRun(env, args[0]);
    if (!run.program().training) throw std::invalid_argument("an inference program cannot train");
    const UpdateSettings update = UpdateFrom(Array<double>(env, args[1], napi_float64_array, kUpdateNumbers, "update"));
    auto turn = std::make_shared<Turn>(run);
    return Promise(env, {args[0]}, [turn, update] { (*turn)->step->Update(update); }, Undefined);
  });
}

// infer(run, images [whole batches, size, size, 3], count, logits Float32Array [count * classes]): Promise<void>. A team
// takes several batches of its program at once, a single executor one. A second call may be made before the first has ended.
napi_value Infer(napi_env env, napi_callback_info info) {
  return Guard(env, [&] {
    const auto args = Arguments(env, info, 4);
    Run& run = InferringRun(env, args[0]);
    const ProgramInfo& p = run.program();
    if (!run.loaded) throw std::invalid_argument("load weights first");
    const Span images = TypedArray(env, args[1], napi_uint8_array, "images");
    const size_t batch_bytes = static_cast<size_t>(p.batch) * p.image_size * p.image_size * 3;
    const size_t batches = images.length / batch_bytes;
    if (images.length != batches * batch_bytes || batches == 0 || (batches > 1 && !run.team))
      throw std::invalid_argument("images are not whole batches of the program's size");
    const auto count = static_cast<size_t>(Number(env, args[2], 0, static_cast<double>(batches * p.batch), "count"));
    float* logits = Array<float>(env, args[3], napi_float32_array, count * p.classes, "logits");
    auto turn = std::make_shared<InferenceTurn>(run);
    return Promise(
        env, {args[0], args[1], args[3]},
        [turn, pixels = static_cast<const uint8_t*>(images.data), count, logits] {
          turn->Take([&](Run& run) {
            if (run.team) {
              run.team->Infer(pixels, static_cast<long>(count), logits);
            } else {
              run.executor->Infer(pixels, static_cast<int>(count), logits);
            }
          });
        },
        Undefined);
  });
}

// logits(run, out Float32Array [batch * classes]): of the last step.
napi_value Logits(napi_env env, napi_callback_info info) {
  return Guard(env, [&] {
    const auto args = Arguments(env, info, 2);
    const Run& run = SingleRun(env, args[0]);
    const size_t count = static_cast<size_t>(run.program().batch) * run.program().classes;
    std::memcpy(Array<float>(env, args[1], napi_float32_array, count, "logits"), run.executor->logits(),
                count * sizeof(float));
    return Undefined(env);
  });
}

// runTime(run, time, batch (BatchFrom), loss as of trainSteps): Promise<[crossEntropy, decayLoss]>. Executor::RunTime; the loss is that of
// the last step forward, else zeros. Nothing is exchanged or updated.
napi_value RunTime(napi_env env, napi_callback_info info) {
  return Guard(env, [&] {
    const auto args = Arguments(env, info, 4);
    Run& run = SingleRun(env, args[0]);
    const ProgramInfo& p = run.program();
    if (!p.training) throw std::invalid_argument("an inference program has no steps of training");
    const int times = 2 * static_cast<int>(p.steps.size()) - p.first_training;
    const int time = static_cast<int>(Number(env, args[1], 0, times - 1, "time"));
    std::vector<napi_value> held = {args[0]};
    const ShardBatch batch = BatchFrom(env, *run.executor, args[2], held);
    LossSettings loss = LossFrom(env, args[3]);
    loss.dropout_mask = batch.dropout_mask;
    auto result = std::make_shared<StepResult>();
    auto turn = std::make_shared<Turn>(run);
    return Promise(
        env, held,
        [turn, time, batch, loss, result] {
          *result = (*turn)->executor->RunTime(time, batch.images, batch.targets, loss);
        },
        [result](napi_env e) { return MakeNumbers(e, {result->cross_entropy, result->decay_loss}); });
  });
}

// startProfile(run, room): what threads do in the steps that follow is written down, and reading and decoding of pictures.
napi_value StartProfile(napi_env env, napi_callback_info info) {
  return Guard(env, [&] {
    const auto args = Arguments(env, info, 2);
    Run& run = SingleRun(env, args[0]);
    const auto room = static_cast<size_t>(Number(env, args[1], 1, 1e7, "room"));
    run.profile = std::make_unique<Profile>(run.executor->pool().threads(), room);
    run.executor->pool().set_profile(run.profile.get());
    StartPictureJobs(room);
    return Undefined(env);
  });
}

napi_value MakeDoubles(napi_env env, const std::vector<double>& values) {
  void* data = nullptr;
  napi_value buffer, array;
  Check(env, napi_create_arraybuffer(env, values.size() * sizeof(double), &data, &buffer));
  if (!values.empty()) std::memcpy(data, values.data(), values.size() * sizeof(double));
  Check(env, napi_create_typedarray(env, napi_float64_array, values.size(), buffer, 0, &array));
  return array;
}

// takeProfile(run): { threads: Float64Array[], jobs: Float64Array, lost, now, wall }, and nothing is written down any more. A span is
// [begin, end, layer or -1, Doing, waits], a job [begin, end, thread, decodes]; times are nanoseconds, `now` among them, `wall` that
// moment in microseconds since 1970.
napi_value TakeProfile(napi_env env, napi_callback_info info) {
  return Guard(env, [&] {
    Run& run = SingleRun(env, Arguments(env, info, 1)[0]);
    if (!run.profile) throw std::invalid_argument("no profile was started");
    run.executor->pool().set_profile(nullptr);
    const std::unique_ptr<Profile> profile = std::move(run.profile);
    std::vector<napi_value> threads;
    for (int t = 0; t < profile->threads(); ++t) {
      std::vector<double> spans;
      for (const TimeSpan& s : profile->spans(t))
        spans.insert(spans.end(), {static_cast<double>(s.begin), static_cast<double>(s.end), static_cast<double>(s.layer),
                                   static_cast<double>(s.doing), s.waits ? 1.0 : 0.0});
      threads.push_back(MakeDoubles(env, spans));
    }
    std::vector<double> jobs;
    for (const PictureJob& j : TakePictureJobs())
      jobs.insert(jobs.end(), {static_cast<double>(j.begin), static_cast<double>(j.end), static_cast<double>(j.thread),
                               j.decodes ? 1.0 : 0.0});
    const auto wall = std::chrono::duration<double, std::micro>(std::chrono::system_clock::now().time_since_epoch());
    napi_value object;
    Check(env, napi_create_object(env, &object));
    SetProperty(env, object, "now", MakeNumber(env, static_cast<double>(SteadyNow())));
    SetProperty(env, object, "wall", MakeNumber(env, wall.count()));
    SetProperty(env, object, "threads", MakeArray(env, threads));
    SetProperty(env, object, "jobs", MakeDoubles(env, jobs));
    SetProperty(env, object, "lost", MakeNumber(env, static_cast<double>(profile->lost())));
    return object;
  });
}

// map(run, planes Int32Array, images, view, out Float32Array [images, planes, height, width]): planes as MapView says.
napi_value Map(napi_env env, napi_callback_info info) {
  return Guard(env, [&] {
    const auto args = Arguments(env, info, 5);
    const Run& run = SingleRun(env, args[0]);
    const ProgramInfo& p = run.program();
    const Span planes = TypedArray(env, args[1], napi_int32_array, "planes");
    const int32_t* ids = static_cast<const int32_t*>(planes.data);
    const int images = static_cast<int>(Number(env, args[2], 1, p.batch, "images"));
    for (size_t i = 0; i < planes.length; ++i)
      if (ids[i] < 0 || ids[i] >= static_cast<int32_t>(p.planes.size()) || p.planes[ids[i]].height != p.planes[ids[0]].height ||
          p.planes[ids[i]].width != p.planes[ids[0]].width)
        throw std::invalid_argument("planes of one size are expected");
    if (planes.length == 0) throw std::invalid_argument("a map has planes");
    const size_t count = planes.length * images * p.planes[ids[0]].height * p.planes[ids[0]].width;
    const auto view = static_cast<MapView>(static_cast<int>(Number(env, args[3], 0, 2, "view")));
    for (size_t i = 0; view == MapView::kGradient && i < planes.length; ++i)
      if (p.planes[ids[i]].gradient < 0) throw std::invalid_argument("the plane has no gradient here");
    run.executor->ReadMap(ids, static_cast<long>(planes.length), images, view,
                          Array<float>(env, args[4], napi_float32_array, count, "map"));
    return Undefined(env);
  });
}

// seconds(run, backward, out Float64Array [steps]): of the last run of each step.
napi_value Seconds(napi_env env, napi_callback_info info) {
  return Guard(env, [&] {
    const auto args = Arguments(env, info, 3);
    const Run& run = IdleRun(env, args[0]);
    const std::vector<double>& seconds =
        run.team ? run.team->seconds() : run.executor->seconds(Boolean(env, args[1]));
    std::memcpy(Array<double>(env, args[2], napi_float64_array, seconds.size(), "seconds"), seconds.data(),
                seconds.size() * sizeof(double));
    return Undefined(env);
  });
}

// abandonStep(run): Promise<void>. In place of the shards that are left of a step.
napi_value AbandonStep(napi_env env, napi_callback_info info) {
  return Guard(env, [&] {
    const auto args = Arguments(env, info, 1);
    Run& run = SingleRun(env, args[0]);
    if (!run.step) throw std::invalid_argument("an inference program has no steps of training");
    auto turn = std::make_shared<Turn>(run);
    return Promise(env, {args[0]}, [turn] { (*turn)->step->Abandon(); }, Undefined);
  });
}

// requestStop(run): asks all ranks to stop after the step in progress; may come while one is.
napi_value RequestStop(napi_env env, napi_callback_info info) {
  return Guard(env, [&] {
    Run& run = OpenRun(env, Arguments(env, info, 1)[0]);
    if (!run.step) throw std::invalid_argument("an inference program has no steps of training");
    run.step->RequestStop();
    return Undefined(env);
  });
}

// products(isa): [those of bf16 that this machine makes, the faster one last]
napi_value Products(napi_env env, napi_callback_info info) {
  return Guard(env, [&] {
    const std::string isa = Text(env, Arguments(env, info, 1)[0]);
    const KernelTable& table = ChooseKernels(isa, "unpack");
    std::vector<napi_value> names = {MakeText(env, "unpack")};
    if (const KernelTable* dot = WithDot(table))
      names.insert(&ChooseKernels(isa) == dot ? names.end() : names.begin(), MakeText(env, "dot"));
    return MakeArray(env, names);
  });
}

// machine(): { available, compiler }
napi_value Machine(napi_env env, napi_callback_info) {
  return Guard(env, [&] {
    std::vector<napi_value> available;
    for (const KernelTable* table : AvailableKernels()) available.push_back(MakeText(env, table->name));
    napi_value object;
    Check(env, napi_create_object(env, &object));
    SetProperty(env, object, "available", MakeArray(env, available));
    SetProperty(env, object, "compiler", MakeText(env, RIFFLE_COMPILER));
    return object;
  });
}

// measurePeak(threads, isa, bf16): Promise<[GFLOP/s of multiply-adds, or of products of bf16, GB/s of copying (read + written)]>
napi_value MeasurePeakOf(napi_env env, napi_callback_info info) {
  return Guard(env, [&] {
    const auto args = Arguments(env, info, 3);
    const int threads = Threads(env, args[0]);
    const KernelTable& kernels = ChooseKernels(Text(env, args[1]));
    const Storage storage = Boolean(env, args[2]) ? Storage::kBf16 : Storage::kF32;
    auto peak = std::make_shared<Peak>();
    return Promise(
        env, {}, [&kernels, storage, threads, peak] { *peak = MeasurePeak(kernels, storage, threads); },
        [peak](napi_env e) { return MakeNumbers(e, {peak->gflops, peak->copy_gigabytes}); });
  });
}

}  // namespace

Run& OpenRun(napi_env env, napi_value value) {
  bool tagged = false;
  Check(env, napi_check_object_type_tag(env, value, &kRunTag, &tagged));
  if (!tagged) throw std::invalid_argument("not a run");
  void* data = nullptr;
  Check(env, napi_unwrap(env, value, &data));
  Run& run = *static_cast<Run*>(data);
  if (!run.state) throw std::invalid_argument("the run is closed");
  return run;
}

Run& IdleRun(napi_env env, napi_value value) {
  Run& run = OpenRun(env, value);
  if (run.busy || run.inferring > 0) throw std::invalid_argument("the run is busy with another call");
  return run;
}

Run& InferringRun(napi_env env, napi_value value) {
  Run& run = OpenRun(env, value);
  if (run.busy || run.inferring == kMostInferring) throw std::invalid_argument("the run is busy with another call");
  return run;
}

Run& SingleRun(napi_env env, napi_value value) {
  Run& run = IdleRun(env, value);
  if (!run.executor) throw std::invalid_argument("a team of threads shares this run: it only infers");
  return run;
}

void RegisterEngine(napi_env env, napi_value exports) {
  Export(env, exports, "createRun", CreateRun);
  Export(env, exports, "closeRun", CloseRun);
  Export(env, exports, "stateOf", StateOf);
  Export(env, exports, "writeState", WriteState);
  Export(env, exports, "trainSteps", TrainSteps);
  Export(env, exports, "setLossScale", SetLossScale);
  Export(env, exports, "applyUpdate", ApplyUpdateTo);
  Export(env, exports, "abandonStep", AbandonStep);
  Export(env, exports, "requestStop", RequestStop);
  Export(env, exports, "infer", Infer);
  Export(env, exports, "logits", Logits);
  Export(env, exports, "runTime", RunTime);
  Export(env, exports, "startProfile", StartProfile);
  Export(env, exports, "takeProfile", TakeProfile);
  Export(env, exports, "map", Map);
  Export(env, exports, "seconds", Seconds);
  Export(env, exports, "products", Products);
  Export(env, exports, "machine", Machine);
  Export(env, exports, "measurePeak", MeasurePeakOf);
}

}  // namespace riffle

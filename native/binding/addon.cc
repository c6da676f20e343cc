// The door between JavaScript and the engine: the only file here (with decode/binding.cc) that knows Node-API.
//
// JavaScript checks its arguments first and words the errors; here types, lengths and ranges are checked again,
// because behind this door is plain memory. Long work runs as Node-API async work, off the JavaScript thread,
// and touches no JavaScript value: the typed arrays it reads and writes are held by references until it ends.
#include <node_api.h>

#include <atomic>
#include <cstring>
#include <functional>
#include <memory>
#include <new>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

#include "../runtime/executor.h"
#include "../runtime/isa.h"
#include "../runtime/peak.h"
#include "../runtime/team.h"

#if defined(__clang__)
#define RIFFLE_COMPILER "Clang " __clang_version__
#elif defined(__GNUC__)
#define RIFFLE_COMPILER "GCC " __VERSION__
#else
#define RIFFLE_COMPILER "an unknown compiler"
#endif

void RegisterDecode(napi_env env, napi_value exports);
void RegisterFileLock(napi_env env, napi_value exports);

namespace riffle {
namespace {

// A failed Node-API call leaves an exception pending or is a mistake of ours; either way there is nothing to go on with.
void Check(napi_env env, napi_status status) {
  if (status == napi_ok) return;
  const napi_extended_error_info* info = nullptr;
  napi_get_last_error_info(env, &info);
  throw std::runtime_error(info && info->error_message ? info->error_message : "Node-API call failed");
}

// Runs `body`; what it throws becomes a JavaScript exception.
template <class Body>
napi_value Guard(napi_env env, Body&& body) {
  try {
    return body();
  } catch (const std::bad_alloc&) {
    napi_throw_error(env, "RIFFLE_MEMORY", "not enough memory for the engine's buffers");
  } catch (const std::exception& e) {
    bool pending = false;
    napi_is_exception_pending(env, &pending);
    if (!pending) napi_throw_error(env, "RIFFLE_NATIVE", e.what());
  }
  return nullptr;
}

std::vector<napi_value> Arguments(napi_env env, napi_callback_info info, size_t count) {
  std::vector<napi_value> args(count);
  size_t given = count;
  Check(env, napi_get_cb_info(env, info, &given, args.data(), nullptr, nullptr));
  if (given < count) throw std::invalid_argument("expected " + std::to_string(count) + " arguments");
  return args;
}

struct Span {
  void* data;
  size_t length;
};

Span TypedArray(napi_env env, napi_value value, napi_typedarray_type wanted, const char* name) {
  bool is = false;
  Check(env, napi_is_typedarray(env, value, &is));
  napi_typedarray_type type{};
  Span span{nullptr, 0};
  if (is) Check(env, napi_get_typedarray_info(env, value, &type, &span.length, &span.data, nullptr, nullptr));
  if (!is || type != wanted) throw std::invalid_argument(std::string(name) + " is not the typed array expected");
  return span;
}

template <class T>
T* Array(napi_env env, napi_value value, napi_typedarray_type type, size_t length, const char* name) {
  const Span span = TypedArray(env, value, type, name);
  if (span.length != length)
    throw std::invalid_argument(std::string(name) + " has " + std::to_string(span.length) + " elements, expected " +
                                std::to_string(length));
  return static_cast<T*>(span.data);
}

bool IsNullish(napi_env env, napi_value value) {
  napi_valuetype type;
  Check(env, napi_typeof(env, value, &type));
  return type == napi_null || type == napi_undefined;
}

double Number(napi_env env, napi_value value) {
  double number = 0;
  Check(env, napi_get_value_double(env, value, &number));
  return number;
}

std::string Text(napi_env env, napi_value value) {
  char buffer[64];
  size_t length = 0;
  Check(env, napi_get_value_string_utf8(env, value, buffer, sizeof buffer, &length));
  return std::string(buffer, length);
}

napi_value Property(napi_env env, napi_value object, const char* name) {
  napi_value value;
  Check(env, napi_get_named_property(env, object, name, &value));
  return value;
}

napi_value MakeNumber(napi_env env, double number) {
  napi_value value;
  Check(env, napi_create_double(env, number, &value));
  return value;
}

napi_value MakeText(napi_env env, const char* text) {
  napi_value value;
  Check(env, napi_create_string_utf8(env, text, NAPI_AUTO_LENGTH, &value));
  return value;
}

napi_value Undefined(napi_env env) {
  napi_value value;
  Check(env, napi_get_undefined(env, &value));
  return value;
}

// --- promises ---

// Work off the JavaScript thread. `run` touches no JavaScript value, `finish` makes the promise's value.
struct Job {
  std::function<void()> run;
  std::function<napi_value(napi_env)> finish;
  std::vector<napi_ref> held;
  napi_deferred deferred = nullptr;
  napi_async_work work = nullptr;
  std::string error;
  bool memory = false;
};

napi_value Promise(napi_env env, const std::vector<napi_value>& hold, std::function<void()> run,
                   std::function<napi_value(napi_env)> finish) {
  auto job = std::make_unique<Job>();
  job->run = std::move(run);
  job->finish = std::move(finish);
  for (napi_value value : hold) {
    napi_valuetype type;
    Check(env, napi_typeof(env, value, &type));
    if (type != napi_object && type != napi_external && type != napi_function) continue;
    napi_ref ref;
    Check(env, napi_create_reference(env, value, 1, &ref));
    job->held.push_back(ref);
  }
  napi_value promise;
  Check(env, napi_create_promise(env, &job->deferred, &promise));
  Check(env, napi_create_async_work(
                 env, nullptr, MakeText(env, "riffle"),
                 [](napi_env, void* data) {
                   Job* j = static_cast<Job*>(data);
                   try {
                     j->run();
                   } catch (const std::bad_alloc&) {
                     j->memory = true;
                     j->error = "not enough memory for the engine's buffers";
                   } catch (const std::exception& e) {
                     j->error = e.what();
                   }
                 },
                 [](napi_env e, napi_status, void* data) {
                   std::unique_ptr<Job> j(static_cast<Job*>(data));
                   for (napi_ref ref : j->held) napi_delete_reference(e, ref);
                   napi_delete_async_work(e, j->work);
                   napi_value value = nullptr;
                   if (j->error.empty()) {
                     try {
                       value = j->finish(e);
                     } catch (const std::exception& failure) {
                       j->error = failure.what();
                     }
                   }
                   if (j->error.empty()) {
                     napi_resolve_deferred(e, j->deferred, value);
                   } else {
                     napi_value code, message, error;
                     napi_create_string_utf8(e, j->memory ? "RIFFLE_MEMORY" : "RIFFLE_NATIVE", NAPI_AUTO_LENGTH, &code);
                     napi_create_string_utf8(e, j->error.c_str(), NAPI_AUTO_LENGTH, &message);
                     napi_create_error(e, code, message, &error);
                     napi_reject_deferred(e, j->deferred, error);
                   }
                 },
                 job.get(), &job->work));
  Check(env, napi_queue_async_work(env, job->work));
  job.release();
  return promise;
}

// --- runs ---

// A loaded program: an executor, or for inference on many images a team. `busy` refuses overlapping calls: they would
// share planes.
struct Handle {
  std::unique_ptr<Executor> executor;
  std::unique_ptr<Team> team;
  std::atomic<bool> busy{false};

  const ProgramInfo& program() const { return team ? team->program() : executor->program(); }
};

// Marks the run busy from the call until its work has ended, whichever way.
class Turn {
 public:
  explicit Turn(Handle& handle) : handle_(&handle) { handle.busy = true; }
  ~Turn() { handle_->busy = false; }
  Turn(const Turn&) = delete;
  Turn& operator=(const Turn&) = delete;
  Executor& executor() const { return *handle_->executor; }
  Handle& handle() const { return *handle_; }

 private:
  Handle* handle_;
};

constexpr napi_type_tag kHandleTag = {0x5269666c65527531ULL, 0x9c1f3b7a2d4e6f80ULL};

Handle& HandleFrom(napi_env env, napi_value value) {
  bool tagged = false;
  Check(env, napi_check_object_type_tag(env, value, &kHandleTag, &tagged));
  void* data = nullptr;
  if (!tagged) throw std::invalid_argument("not a run");
  Check(env, napi_unwrap(env, value, &data));
  Handle& handle = *static_cast<Handle*>(data);
  if (!handle.executor && !handle.team) throw std::invalid_argument("the run is closed");
  return handle;
}

Handle& Idle(Handle& handle) {
  if (handle.busy) throw std::invalid_argument("the run is busy with another call");
  return handle;
}

// For what only a single executor can do: train, run one step, show its planes.
Handle& Alone(Handle& handle) {
  if (!handle.executor) throw std::invalid_argument("a team of threads shares this run: it only infers");
  return Idle(handle);
}

Weights WeightsFrom(napi_env env, napi_value object, const ProgramInfo& p, bool training) {
  const auto floats = [&](const char* name, size_t length) {
    return Array<float>(env, Property(env, object, name), napi_float32_array, length, name);
  };
  Weights w;
  w.parameters = floats("parameters", p.parameter_count);
  w.statistics = floats("statistics", 2 * p.planes.size());
  if (training) {
    w.gradients = floats("gradients", p.parameter_count);
    w.momentum = floats("momentum", p.parameter_count);
    w.averages = floats("averages", p.parameter_count);
  }
  return w;
}

// The arrays themselves are held, not only the object that lists them.
std::vector<napi_value> Held(napi_env env, napi_value self, napi_value state, bool training) {
  std::vector<napi_value> held = {self, Property(env, state, "parameters"), Property(env, state, "statistics")};
  if (training)
    for (const char* name : {"gradients", "momentum", "averages"}) held.push_back(Property(env, state, name));
  return held;
}

UpdateSettings UpdateFrom(napi_env env, napi_value value) {
  const double* u = Array<double>(env, value, napi_float64_array, 5, "update");
  return {.learning_rate = u[0], .momentum = u[1], .weight_decay = u[2], .average_decay = u[3], .nesterov = u[4] != 0};
}

// createRun(words: Float64Array, threads: number, isa: string, team: boolean): object. As a team each thread runs
// the (inference) program alone, on portions of its batch.
napi_value CreateRun(napi_env env, napi_callback_info info) {
  return Guard(env, [&] {
    const auto args = Arguments(env, info, 4);
    const Span words = TypedArray(env, args[0], napi_float64_array, "program");
    const double threads = Number(env, args[1]);
    if (!(threads >= 1 && threads <= 1024)) throw std::invalid_argument("threads must be 1 to 1024");
    bool team = false;
    Check(env, napi_get_value_bool(env, args[3], &team));
    auto handle = std::make_unique<Handle>();
    ProgramInfo program = DecodeProgram(static_cast<const double*>(words.data), words.length);
    const KernelTable& kernels = ChooseKernels(Text(env, args[2]));
    if (team && program.training) throw std::invalid_argument("a training program is run by one executor");
    if (team) {
      handle->team = std::make_unique<Team>(program, kernels, static_cast<int>(threads));
    } else {
      handle->executor = std::make_unique<Executor>(std::move(program), kernels, static_cast<int>(threads));
    }
    napi_value object;
    Check(env, napi_create_object(env, &object));
    Check(env, napi_wrap(env, object, handle.get(),
                         [](napi_env, void* data, void*) { delete static_cast<Handle*>(data); }, nullptr, nullptr));
    handle.release();
    Check(env, napi_type_tag_object(env, object, &kHandleTag));
    return object;
  });
}

// closeRun(run): frees the arena and ends the threads.
napi_value CloseRun(napi_env env, napi_callback_info info) {
  return Guard(env, [&] {
    Handle& handle = Idle(HandleFrom(env, Arguments(env, info, 1)[0]));
    handle.executor.reset();
    handle.team.reset();
    return Undefined(env);
  });
}

// trainStep(run, images, labels, loss [labelSmoothing, weightDecay], dropoutMask | null, state, update | null):
// Promise<[crossEntropy, decayLoss, correct1, correct5, finite]>
napi_value TrainStep(napi_env env, napi_callback_info info) {
  return Guard(env, [&] {
    const auto args = Arguments(env, info, 7);
    Handle& handle = Alone(HandleFrom(env, args[0]));
    const ProgramInfo& p = handle.executor->program();
    if (!p.training) throw std::invalid_argument("an inference program cannot train");
    const size_t batch = p.batch;
    const uint8_t* images =
        Array<uint8_t>(env, args[1], napi_uint8_array, batch * p.image_size * p.image_size * 3, "images");
    const int32_t* labels = Array<int32_t>(env, args[2], napi_int32_array, batch, "labels");
    for (size_t i = 0; i < batch; ++i)
      if (labels[i] < 0 || labels[i] >= p.classes)
        throw std::invalid_argument("label " + std::to_string(labels[i]) + " of sample " + std::to_string(i) +
                                    " is not one of " + std::to_string(p.classes) + " classes");
    const double* l = Array<double>(env, args[3], napi_float64_array, 2, "loss");
    LossSettings loss = {.label_smoothing = l[0], .weight_decay = l[1]};
    if (!IsNullish(env, args[4]))
      loss.dropout_mask = Array<float>(env, args[4], napi_float32_array,
                                       batch * handle.executor->features(), "dropout mask");
    const Weights weights = WeightsFrom(env, args[5], p, true);
    const bool updates = !IsNullish(env, args[6]);
    const UpdateSettings update = updates ? UpdateFrom(env, args[6]) : UpdateSettings{};
    auto held = Held(env, args[0], args[5], true);
    held.insert(held.end(), {args[1], args[2], args[4]});
    auto result = std::make_shared<StepResult>();
    auto turn = std::make_shared<Turn>(handle);
    return Promise(
        env, held,
        [turn, images, labels, weights, loss, updates, update, result] {
          *result = turn->executor().ComputeGradients(images, labels, weights, loss);
          if (updates && result->finite) turn->executor().ApplyUpdate(weights, update);
        },
        [result](napi_env e) {
          const double numbers[] = {result->cross_entropy, result->decay_loss,
                                    static_cast<double>(result->correct1), static_cast<double>(result->correct5),
                                    result->finite ? 1.0 : 0.0};
          napi_value array;
          Check(e, napi_create_array_with_length(e, 5, &array));
          for (uint32_t i = 0; i < 5; ++i) Check(e, napi_set_element(e, array, i, MakeNumber(e, numbers[i])));
          return array;
        });
  });
}

// applyUpdate(run, state, update): Promise<void>
napi_value ApplyUpdate(napi_env env, napi_callback_info info) {
  return Guard(env, [&] {
    const auto args = Arguments(env, info, 3);
    Handle& handle = Alone(HandleFrom(env, args[0]));
    const Weights weights = WeightsFrom(env, args[1], handle.executor->program(), true);
    const UpdateSettings update = UpdateFrom(env, args[2]);
    auto turn = std::make_shared<Turn>(handle);
    return Promise(
        env, Held(env, args[0], args[1], true),
        [turn, weights, update] { turn->executor().ApplyUpdate(weights, update); },
        Undefined);
  });
}

// loadWeights(run, weights): copies them.
napi_value LoadWeights(napi_env env, napi_callback_info info) {
  return Guard(env, [&] {
    const auto args = Arguments(env, info, 2);
    Handle& handle = Idle(HandleFrom(env, args[0]));
    if (handle.program().training) throw std::invalid_argument("a training program does not infer");
    const Weights weights = WeightsFrom(env, args[1], handle.program(), false);
    if (handle.team) {
      handle.team->Load(weights);
    } else {
      handle.executor->Load(weights);
    }
    return Undefined(env);
  });
}

// infer(run, images [whole batches, size, size, 3], count, logits Float32Array [count * classes]): Promise<void>. A team
// takes several batches of its program at once, a single executor one.
napi_value Infer(napi_env env, napi_callback_info info) {
  return Guard(env, [&] {
    const auto args = Arguments(env, info, 4);
    Handle& handle = Idle(HandleFrom(env, args[0]));
    const ProgramInfo& p = handle.program();
    if (!(handle.team ? handle.team->loaded() : handle.executor->loaded()))
      throw std::invalid_argument("load weights first");
    const Span images = TypedArray(env, args[1], napi_uint8_array, "images");
    const size_t batch_bytes = static_cast<size_t>(p.batch) * p.image_size * p.image_size * 3;
    const size_t batches = images.length / batch_bytes;
    if (images.length != batches * batch_bytes || batches == 0 || (batches > 1 && !handle.team))
      throw std::invalid_argument("images are not whole batches of the program's size");
    const double count = Number(env, args[2]);
    if (!(count >= 0 && count <= static_cast<double>(batches * p.batch)))
      throw std::invalid_argument("count must be 0 to the number of images");
    float* logits = Array<float>(env, args[3], napi_float32_array, static_cast<size_t>(count) * p.classes, "logits");
    auto turn = std::make_shared<Turn>(handle);
    return Promise(
        env, {args[0], args[1], args[3]},
        [turn, pixels = static_cast<const uint8_t*>(images.data), count, logits] {
          if (turn->handle().team) {
            turn->handle().team->Infer(pixels, static_cast<long>(count), logits);
          } else {
            turn->executor().Infer(pixels, static_cast<int>(count), logits);
          }
        },
        Undefined);
  });
}

// runStep(run, index, backward, state): Promise<void>. For tests: one step on what stands in the planes.
napi_value RunStep(napi_env env, napi_callback_info info) {
  return Guard(env, [&] {
    const auto args = Arguments(env, info, 4);
    Handle& handle = Alone(HandleFrom(env, args[0]));
    const ProgramInfo& p = handle.executor->program();
    const double index = Number(env, args[1]);
    bool backward = false;
    Check(env, napi_get_value_bool(env, args[2], &backward));
    if (!(index >= 0 && index < static_cast<double>(p.steps.size()))) throw std::invalid_argument("no such step");
    if (backward && !p.training) throw std::invalid_argument("an inference program has no backward steps");
    const Weights weights = WeightsFrom(env, args[3], p, p.training);
    auto turn = std::make_shared<Turn>(handle);
    return Promise(
        env, Held(env, args[0], args[3], p.training),
        [turn, index, backward, weights] { turn->executor().RunStep(static_cast<int>(index), backward, weights); },
        Undefined);
  });
}

// --- looks inside ---

// logits(run, out Float32Array [batch * classes])
napi_value Logits(napi_env env, napi_callback_info info) {
  return Guard(env, [&] {
    const auto args = Arguments(env, info, 2);
    const Handle& handle = Alone(HandleFrom(env, args[0]));
    const size_t count = static_cast<size_t>(handle.executor->program().batch) * handle.executor->program().classes;
    std::memcpy(Array<float>(env, args[1], napi_float32_array, count, "logits"), handle.executor->logits(),
                count * sizeof(float));
    return Undefined(env);
  });
}

// plane(run, id, gradient, write, values Float64Array [batch * height * width])
napi_value Plane(napi_env env, napi_callback_info info) {
  return Guard(env, [&] {
    const auto args = Arguments(env, info, 5);
    Handle& handle = Alone(HandleFrom(env, args[0]));
    const ProgramInfo& p = handle.executor->program();
    const double id = Number(env, args[1]);
    bool gradient = false, write = false;
    Check(env, napi_get_value_bool(env, args[2], &gradient));
    Check(env, napi_get_value_bool(env, args[3], &write));
    if (!(id >= 0 && id < static_cast<double>(p.planes.size()))) throw std::invalid_argument("no such plane");
    const PlaneInfo& plane = p.planes[static_cast<size_t>(id)];
    const size_t count = p.batch * plane.height * plane.width;
    double* values = Array<double>(env, args[4], napi_float64_array, count, "values");
    float* data = handle.executor->plane(static_cast<int>(id), gradient);
    if (!data) throw std::invalid_argument("the plane has no gradient here");
    for (size_t i = 0; i < count; ++i) {
      if (write) {
        data[i] = static_cast<float>(values[i]);
      } else {
        values[i] = data[i];
      }
    }
    return Undefined(env);
  });
}

// table(run, which 0..5, write, values Float64Array [planes])
napi_value TableValues(napi_env env, napi_callback_info info) {
  return Guard(env, [&] {
    const auto args = Arguments(env, info, 4);
    Handle& handle = Alone(HandleFrom(env, args[0]));
    const double which = Number(env, args[1]);
    if (!(which >= 0 && which <= 5)) throw std::invalid_argument("no such table");
    bool write = false;
    Check(env, napi_get_value_bool(env, args[2], &write));
    double* values = Array<double>(env, args[3], napi_float64_array, handle.executor->program().planes.size(), "values");
    const Table table = static_cast<Table>(static_cast<int>(which));
    if (write) {
      handle.executor->norm().WriteTable(table, values);
    } else {
      handle.executor->norm().ReadTable(table, values);
    }
    return Undefined(env);
  });
}

// seconds(run, backward, out Float64Array [steps])
napi_value Seconds(napi_env env, napi_callback_info info) {
  return Guard(env, [&] {
    const auto args = Arguments(env, info, 3);
    const Handle& handle = Idle(HandleFrom(env, args[0]));
    bool backward = false;
    Check(env, napi_get_value_bool(env, args[1], &backward));
    const std::vector<double>& seconds = handle.team ? handle.team->seconds() : handle.executor->seconds(backward);
    std::memcpy(Array<double>(env, args[2], napi_float64_array, seconds.size(), "seconds"), seconds.data(),
                seconds.size() * sizeof(double));
    return Undefined(env);
  });
}

// machine(): { isa, available, compiler, libjpeg, threads }
napi_value Machine(napi_env env, napi_callback_info) {
  return Guard(env, [&] {
    napi_value object, available, libjpeg;
    Check(env, napi_create_object(env, &object));
    Check(env, napi_create_array(env, &available));
    uint32_t i = 0;
    for (const KernelTable* table : AvailableKernels())
      Check(env, napi_set_element(env, available, i++, MakeText(env, table->name)));
#ifdef RIFFLE_HAVE_LIBJPEG
    Check(env, napi_get_boolean(env, true, &libjpeg));
#else
    Check(env, napi_get_boolean(env, false, &libjpeg));
#endif
    Check(env, napi_set_named_property(env, object, "available", available));
    Check(env, napi_set_named_property(env, object, "libjpeg", libjpeg));
    Check(env, napi_set_named_property(env, object, "compiler", MakeText(env, RIFFLE_COMPILER)));
    Check(env, napi_set_named_property(env, object, "threads", MakeNumber(env, std::thread::hardware_concurrency())));
    return object;
  });
}

// measurePeak(threads, isa): Promise<[GFLOP/s of multiply-adds, GB/s of copying (read + written)]>
napi_value MeasurePeakOf(napi_env env, napi_callback_info info) {
  return Guard(env, [&] {
    const auto args = Arguments(env, info, 2);
    const double threads = Number(env, args[0]);
    if (!(threads >= 1 && threads <= 1024)) throw std::invalid_argument("threads must be 1 to 1024");
    const KernelTable& kernels = ChooseKernels(Text(env, args[1]));
    auto peak = std::make_shared<Peak>();
    return Promise(
        env, {}, [&kernels, threads, peak] { *peak = MeasurePeak(kernels, static_cast<int>(threads)); },
        [peak](napi_env e) {
          napi_value array;
          Check(e, napi_create_array_with_length(e, 2, &array));
          Check(e, napi_set_element(e, array, 0, MakeNumber(e, peak->gflops)));
          Check(e, napi_set_element(e, array, 1, MakeNumber(e, peak->copy_gigabytes)));
          return array;
        });
  });
}

napi_value Init(napi_env env, napi_value exports) {
  return Guard(env, [&] {
    const auto add = [&](const char* name, napi_callback callback) {
      napi_value function;
      Check(env, napi_create_function(env, name, NAPI_AUTO_LENGTH, callback, nullptr, &function));
      Check(env, napi_set_named_property(env, exports, name, function));
    };
    add("createRun", CreateRun);
    add("closeRun", CloseRun);
    add("trainStep", TrainStep);
    add("applyUpdate", ApplyUpdate);
    add("loadWeights", LoadWeights);
    add("infer", Infer);
    add("runStep", RunStep);
    add("logits", Logits);
    add("plane", Plane);
    add("table", TableValues);
    add("seconds", Seconds);
    add("machine", Machine);
    add("measurePeak", MeasurePeakOf);
    RegisterDecode(env, exports);
    RegisterFileLock(env, exports);
    return exports;
  });
}

}  // namespace
}  // namespace riffle

NAPI_MODULE(NODE_GYP_MODULE_NAME, riffle::Init)

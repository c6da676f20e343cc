// The thread pool runs every task once, and a program gives the same bits on any number of threads. Built with
// -fsanitize=thread this is also where data races show.
#include <algorithm>
#include <atomic>
#include <chrono>
#include <cmath>
#include <new>
#include <set>
#include <string>
#include <thread>
#include <vector>

#include "../runtime/executor.h"
#include "../runtime/job_thread.h"
#include "../runtime/thread_pool.h"
#include "../runtime/training_step.h"
#include "check.h"

namespace riffle::test {
namespace {

constexpr int kThreadCounts[] = {1, 2, 3, 4, 7};

constexpr int kBatch = 6, kImageSize = 45, kClasses = 7;
constexpr int kStemChannels = 8, kWide = 12, kOutputs = 16;

// A network small enough to read that has every kind of step, a plane with two readers and odd sizes:
//
//   image 45x45 -> stem: planes 0-7, 12x12 -> pointwise: 8-19 -> depthwise, stride 2: 20-31, 6x6 -+
//                                \----------> depthwise, stride 2: 32-39, 6x6 --------------------+-> pointwise:
//   40-55 -> head
//
// Parameters lie in the order in which backward finishes, a bucket a step. The first `frozen` steps do not train.
ProgramInfo SmallProgram(bool training, int frozen = 0) {
  ProgramInfo p{};
  p.training = training;
  p.batch = kBatch;
  p.image_size = kImageSize;
  p.classes = kClasses;
  p.epsilon = 1e-5;
  p.momentum = 0.9;
  const size_t frozen_planes = frozen > 0 ? kStemChannels : 0;
  const auto add_planes = [&](int count, long size, bool relu) {
    const int first = static_cast<int>(p.planes.size());
    for (int i = 0; i < count; ++i) {
      PlaneInfo plane{.height = size, .width = size, .relu = relu, .value = p.arena, .gradient = -1, .gamma = 0, .beta = 0};
      p.arena += PlaneBytes(plane, kBatch, p.storage);
      if (training && p.planes.size() >= frozen_planes) {
        plane.gradient = p.arena;
        p.arena += PlaneBytes(plane, kBatch, p.storage);
      }
      p.planes.push_back(plane);
    }
    return first;
  };
  const auto add_parameters = [&](long count, bool decay) {
    const long begin = p.parameter_count;
    p.parameter_count += count;
    if (training && p.trained_count == 0) p.segments.push_back({begin, p.parameter_count, decay, 1});
    return begin;
  };
  const auto half = [](int size) {
    const int out = (size + 1) / 2;
    return Window{.in_h = size, .in_w = size, .out_h = out, .out_w = out, .stride = 2, .pad_top = size % 2, .pad_left = size % 2};
  };

  StepInfo stem{.kind = StepKind::kStem, .inputs = {}, .accumulates = {}};
  stem.window = half(kImageSize);
  stem.pooling = half(stem.window.out_h);
  stem.count = kStemChannels;
  stem.first = add_planes(stem.count, stem.pooling.out_h, true);
  for (int i = 0; i < 3; ++i) {
    stem.input_scale[i] = 2.0f / 255;
    stem.input_shift[i] = -1;
  }
  StepInfo widen{.kind = StepKind::kPointwise, .inputs = {}, .accumulates = {}};
  for (int i = 0; i < stem.count; ++i) widen.inputs.push_back(stem.first + i);
  widen.accumulates.assign(stem.count, 1);  // backward, `side` has written these before
  widen.count = kWide;
  widen.first = add_planes(widen.count, stem.pooling.out_h, true);
  StepInfo main{.kind = StepKind::kDepthwise, .inputs = {}, .accumulates = {}};
  for (int i = 0; i < widen.count; ++i) main.inputs.push_back(widen.first + i);
  main.accumulates.assign(widen.count, 0);
  main.window = half(stem.pooling.out_h);
  main.count = widen.count;
  main.first = add_planes(main.count, main.window.out_h, false);
  StepInfo side{.kind = StepKind::kDepthwise, .inputs = widen.inputs, .accumulates = {}};
  side.accumulates.assign(stem.count, 0);
  side.window = main.window;
  side.count = stem.count;
  side.first = add_planes(side.count, side.window.out_h, false);
  StepInfo join{.kind = StepKind::kPointwise, .inputs = {}, .accumulates = {}};
  for (int i = 0; i < main.count + side.count; ++i) join.inputs.push_back(main.first + (i * 7) % (main.count + side.count));
  join.accumulates.assign(join.inputs.size(), 0);
  join.count = kOutputs;
  join.first = add_planes(join.count, main.window.out_h, true);
  StepInfo head{.kind = StepKind::kHead, .inputs = {}, .accumulates = {}, .cut = {}};
  for (int i = 0; i < join.count; ++i) head.inputs.push_back(join.first + i);
  head.accumulates.assign(join.count, 0);
  p.steps = {stem, widen, main, side, join, head};
  const int steps = static_cast<int>(p.steps.size());
  p.first_training = training ? frozen : steps;
  p.frozen_planes = static_cast<int>(training ? frozen_planes : p.planes.size());
  for (int i = steps; i-- > 0;) {
    StepInfo& step = p.steps[i];
    step.trains = i >= p.first_training;
    const long begin = p.parameter_count, inputs = static_cast<long>(step.inputs.size());
    const bool depthwise = step.kind == StepKind::kDepthwise;
    const long each = step.kind == StepKind::kStem ? 27 : depthwise ? 9 : inputs;
    step.weights = add_parameters((step.kind == StepKind::kHead ? kClasses : step.count) * each, !depthwise);
    if (step.kind == StepKind::kHead) step.bias = add_parameters(kClasses, false);
    const long norms = add_parameters(2L * step.count, false);
    for (int c = 0; c < step.count; ++c) {
      p.planes[step.first + c].gamma = norms + c;
      p.planes[step.first + c].beta = norms + step.count + c;
    }
    if (step.trains) p.buckets.push_back({begin, p.parameter_count, i});
    if (i == p.first_training) p.trained_count = p.parameter_count;
  }
  return p;
}

// Everything a few steps of training leave behind.
struct Outcome {
  std::vector<float> parameters, statistics, gradients, momentum, averages, logits, inferred;
  std::vector<double> losses;
};

// Weights to begin with, and a batch.
struct Beginning {
  std::vector<float> parameters, statistics;
  std::vector<uint8_t> images;
  std::vector<int32_t> labels;

  explicit Beginning(const ProgramInfo& program) {
    Numbers numbers(7);
    for (long i = 0; i < program.parameter_count; ++i) parameters.push_back(0.5f * numbers.Uniform());
    for (const PlaneInfo& plane : program.planes) {
      parameters[plane.gamma] = 1 + 0.25f * numbers.Uniform();
      parameters[plane.beta] = 0.25f * numbers.Uniform();
    }
    statistics.assign(program.planes.size(), 0);
    statistics.resize(2 * program.planes.size(), 1);
    for (int i = 0; i < kBatch * kImageSize * kImageSize * 3; ++i)
      images.push_back(static_cast<uint8_t>(numbers.Below(256)));
    for (int i = 0; i < kBatch; ++i) labels.push_back(static_cast<int32_t>(numbers.Below(kClasses)));
  }
};

Outcome Train(const KernelTable& kernels, int threads, Profile* profile = nullptr) {
  const ProgramInfo program = SmallProgram(true);
  const Beginning beginning(program);
  Outcome o;
  o.parameters = beginning.parameters;
  o.statistics = beginning.statistics;
  o.gradients.assign(o.parameters.size(), 0);
  o.momentum.assign(o.parameters.size(), 0);
  o.averages = o.parameters;
  const std::vector<uint8_t>& images = beginning.images;
  const std::vector<int32_t>& labels = beginning.labels;
  const State state(program);
  const auto write = [&](const State& to, StateArray which, const std::vector<float>& from) {
    std::copy(from.begin(), from.end(), to.array(which));
  };
  const auto read = [&](StateArray which, std::vector<float>& into) {
    std::copy_n(state.array(which), into.size(), into.begin());
  };
  write(state, StateArray::kParameters, o.parameters);
  write(state, StateArray::kStatistics, o.statistics);
  write(state, StateArray::kAverages, o.averages);
  Executor training(program, kernels, threads, state);
  TrainingStep training_step(training, nullptr);
  training.pool().set_profile(profile);
  for (int step = 0; step < 3; ++step) {
    const StepResult result = training_step.Compute({images.data(), {.labels = labels.data()}, nullptr}, {.label_smoothing = 0.1, .weight_decay = 1e-3}, 0, 1);
    o.losses.push_back(result.finite ? result.cross_entropy + result.decay_loss : NAN);
    training_step.Update({.learning_rate = 0.1, .momentum = 0.9, .weight_decay = 1e-3, .average_decay = 0.9, .nesterov = true});
  }
  read(StateArray::kParameters, o.parameters);
  read(StateArray::kStatistics, o.statistics);
  read(StateArray::kMomentum, o.momentum);
  read(StateArray::kAverages, o.averages);
  read(StateArray::kGradients, o.gradients);
  o.logits.assign(training.logits(), training.logits() + kBatch * kClasses);
  const ProgramInfo inferring = SmallProgram(false);
  const State loaded(inferring);
  write(loaded, StateArray::kParameters, o.parameters);
  write(loaded, StateArray::kStatistics, o.statistics);
  Executor inference(inferring, kernels, threads, loaded);
  inference.Prepare();
  o.inferred.resize(kBatch * kClasses);
  inference.Infer(images.data(), kBatch, o.inferred.data());
  return o;
}

// Writes down what it is told, and multiplies the last bucket while it waits.
class Recorder : public GradientSink {
 public:
  explicit Recorder(float factor) : factor_(factor) {}

  void Ready(int bucket, float* begin, long count) override {
    in_order = in_order && waits == 0 && bucket == static_cast<int>(buckets.size());
    buckets.emplace_back(begin, begin + count);
    last_ = begin;
  }
  void Wait() override {
    ++waits;
    for (size_t i = 0; i < buckets.back().size(); ++i) last_[i] *= factor_;
  }

  bool in_order = true;
  int waits = 0;
  std::vector<std::vector<float>> buckets;

 private:
  const float factor_;
  float* last_ = nullptr;
};

// A step's gradients, finite or not.
std::vector<float> Gradients(const KernelTable& kernels, const ProgramInfo& program, GradientSink* sink, bool* finite) {
  const Beginning beginning(program);
  const State state(program);
  std::copy(beginning.parameters.begin(), beginning.parameters.end(), state.array(StateArray::kParameters));
  std::copy(beginning.statistics.begin(), beginning.statistics.end(), state.array(StateArray::kStatistics));
  Executor training(program, kernels, 2, state);
  const StepResult result = training.ComputeGradients(beginning.images.data(), {.labels = beginning.labels.data()}, {}, sink);
  *finite = std::isfinite(result.cross_entropy) && training.GradientsAreFinite();
  const float* gradients = state.array(StateArray::kGradients);
  return {gradients, gradients + program.trained_count};
}

}  // namespace

void TestThreadPool() {
  Test test("any", "thread pool");
  for (int threads : kThreadCounts) {
    test.Case("%d threads", threads);
    ThreadPool pool(threads);
    test.Same("threads", 0, pool.threads(), threads);
    // Whether a thread number is in use: scratch memory belongs to it.
    std::vector<std::atomic<int>> busy(threads);
    bool once = true, alone = true;
    for (int job = 0; job < 2000; ++job) {
      const long tasks = job % 23;
      std::vector<int> runs(tasks, 0);  // not atomic: each task's element is its own
      std::atomic<bool> collided{false};
      pool.Run(tasks, [&](long task, int thread) {
        if (busy[thread].fetch_add(1) != 0) collided = true;
        ++runs[task];
        busy[thread].fetch_sub(1);
      });
      for (int count : runs) once = once && count == 1;
      alone = alone && !collided;
      // Now and then long enough for the threads to fall asleep.
      if (job % 500 == 0) std::this_thread::sleep_for(std::chrono::milliseconds(20));
    }
    test.True(once, "a task did not run exactly once");
    test.True(alone, "two tasks ran at once under one thread's number");
    // More tasks than one ticket counts.
    std::atomic<long> sum{0};
    constexpr long kMany = 1200000;
    if (threads == 2) {
      pool.Run(kMany, [&](long task, int) { sum.fetch_add(task, std::memory_order_relaxed); });
      test.Same("sum of task numbers", 0, sum, kMany * (kMany - 1) / 2);
    }
  }
}

// What goes wrong in a task or at the start of a thread is an exception of the caller's, and the pool can go on or is gone.
void TestThreadPoolErrors() {
  Test test("any", "errors of the thread pool");
  for (int threads : kThreadCounts) {
    test.Case("%d threads", threads);
    ThreadPool pool(threads);
    for (int job = 0; job < 200; ++job) {
      bool caught = false;
      try {
        pool.Run(20, [&](long task, int) {
          if (task % 7 == job % 7) throw std::bad_alloc();
        });
      } catch (const std::bad_alloc&) {
        caught = true;
      }
      test.True(caught, "what a task threw did not reach the caller");
      std::atomic<int> runs{0};
      pool.Run(20, [&](long, int) { ++runs; });
      test.Same("tasks after an exception", 0, runs, 20);
    }
  }
  for (int refused : {1, 2, 6}) {
    test.Case("thread %d refused", refused);
    std::string message;
    try {
      ThreadPool pool(7, refused);
    } catch (const ThreadStartError& error) {
      message = error.what();
    }
    test.True(message == "only " + std::to_string(refused) + " of 7 threads could be started", message.c_str());
  }
}

// Jobs of several callers are done one after another, each reported to its own caller, with a thread for them and without.
void TestJobThread() {
  Test test("any", "a thread for jobs");
  for (bool refused : {false, true}) {
    test.Case("%s", refused ? "refused" : "had");
    std::set<std::thread::id> doers;
    std::atomic<int> callers{0}, done{0}, failed{0};
    int under_way = 0;
    bool overlapped = false;
    JobThread jobs(refused);
    std::vector<std::thread> asking;
    for (int caller = 0; caller < 4; ++caller)
      asking.emplace_back([&, caller] {
        for (int i = 0; i < 100; ++i) {
          bool own = false;
          try {
            jobs.Run([&] {
              overlapped = overlapped || under_way++ > 0;
              doers.insert(std::this_thread::get_id());
              own = true;
              --under_way;
              if (i % 10 == caller) throw std::bad_alloc();
            });
            ++done;
          } catch (const std::bad_alloc&) {
            ++failed;
          }
          callers += own;
        }
      });
    for (std::thread& t : asking) t.join();
    test.True(!overlapped, "two jobs were done at a time");
    test.Same("jobs done when their caller goes on", 0, callers, 400);
    test.Same("jobs that ended well", 0, done, 360);
    test.Same("jobs whose error reached their caller", 0, failed, 40);
    test.True(doers.size() == (refused ? 4 : 1), "jobs were done on another number of threads");
  }
}

void TestExecutor(const KernelTable& kernels) {
  Test test(kernels.name, "program on 1, 2, 3, 4 and 7 threads");
  const Outcome one = Train(kernels, 1);
  test.Case("1 thread");
  test.True(one.losses[2] < one.losses[0], "three steps on the same batch do not lower the loss");
  for (int threads : kThreadCounts) {
    test.Case("%d threads", threads);
    const Outcome other = Train(kernels, threads);
    const auto same = [&](const auto& a, const auto& b, const char* what) {
      test.True(a.size() == b.size() && std::memcmp(a.data(), b.data(), a.size() * sizeof a[0]) == 0, what);
    };
    same(one.losses, other.losses, "the losses have other bits");
    same(one.logits, other.logits, "the logits have other bits");
    same(one.gradients, other.gradients, "the gradients have other bits");
    same(one.parameters, other.parameters, "the parameters have other bits");
    same(one.momentum, other.momentum, "the momentum has other bits");
    same(one.averages, other.averages, "the averages have other bits");
    same(one.statistics, other.statistics, "the statistics have other bits");
    same(one.inferred, other.inferred, "inference has other bits");
  }
}

// A profile has each thread's spans one after another, the caller's without a gap in a step, and changes no bit.
void TestProfile(const KernelTable& kernels) {
  Test test(kernels.name, "a profile of 1, 2, 3, 4 and 7 threads");
  const Outcome plain = Train(kernels, 1);
  const int steps = static_cast<int>(SmallProgram(true).steps.size());
  for (int threads : kThreadCounts) {
    test.Case("%d threads", threads);
    Profile profile(threads, 10000);
    const int64_t before = SteadyNow();
    const Outcome profiled = Train(kernels, threads, &profile);
    const int64_t after = SteadyNow();
    test.True(profiled.parameters == plain.parameters, "the parameters have other bits");
    test.Same("spans lost", 0, profile.lost(), 0);
    for (int t = 0; t < threads; ++t) {
      int64_t last = before;
      for (const TimeSpan& span : profile.spans(t)) {
        test.True(span.begin >= last && span.end >= span.begin && span.end <= after, "spans come one after another");
        last = span.end;
      }
    }
    long gaps = 0;
    const std::vector<TimeSpan>& caller = profile.spans(0);
    for (size_t i = 1; i < caller.size(); ++i) gaps += caller[i].begin != caller[i - 1].end;
    // Between a step and its update, and between that and the next step.
    test.True(gaps <= 5, "a step has no gaps");
    for (int layer = 0; layer < steps; ++layer)
      for (const Doing doing : {Doing::kForward, Doing::kBackward}) {
        const long found = std::count_if(caller.begin(), caller.end(), [&](const TimeSpan& span) {
          return span.layer == layer && span.doing == doing && !span.waits;
        });
        test.True(found >= 3, "a layer has a span in each step and direction");
      }
  }
  test.Case("no room");
  Profile narrow(2, 4);
  Train(kernels, 2, &narrow);
  test.True(narrow.spans(0).size() >= 4 && narrow.lost() > 0, "what has no room is counted");
}

// A sink hears of each bucket that trains once, in order, when nothing will change it again, and has the last word.
void TestGradientSink(const KernelTable& kernels) {
  Test test(kernels.name, "gradients in backward's order");
  for (int frozen : {0, 1}) {
    test.Case("%d steps frozen", frozen);
    const ProgramInfo program = SmallProgram(true, frozen);
    bool finite = false;
    const std::vector<float> alone = Gradients(kernels, program, nullptr, &finite);
    test.True(finite, "the gradients are finite");
    Recorder recorder(2);
    const std::vector<float> doubled = Gradients(kernels, program, &recorder, &finite);
    test.True(recorder.in_order, "buckets come in their order, before the sink is waited for");
    test.Same("buckets", 0, static_cast<long>(recorder.buckets.size()), static_cast<long>(program.steps.size()) - frozen);
    test.Same("waits", 0, recorder.waits, 1);
    std::vector<float> announced;
    for (const std::vector<float>& bucket : recorder.buckets) announced.insert(announced.end(), bucket.begin(), bucket.end());
    test.True(announced == alone, "what was announced is what stands there in the end");
    for (size_t i = program.buckets.back().begin; i < alone.size(); ++i) announced[i] *= 2;
    test.True(doubled == announced, "what the sink does while it is waited for shows in the gradients");
    Recorder spoiler(NAN);
    Gradients(kernels, program, &spoiler, &finite);
    test.True(!finite, "gradients are looked at after the sink");
  }
}

}  // namespace riffle::test

#include "program.h"

#include <algorithm>
#include <limits>

#include "fail.h"
#include "layers/layer.h"
#include "words.h"

namespace riffle {
namespace {

constexpr double kFormat = 7;
// What can be counted here: a long, and bytes of memory.
constexpr int64_t kManyElements = std::min<int64_t>(int64_t{1} << 40, std::numeric_limits<long>::max());
constexpr int64_t kManyBytes = std::min<uint64_t>(uint64_t{1} << 46, std::numeric_limits<size_t>::max());
constexpr long kLine = 64;

Cut ReadCut(Words& words, const ProgramInfo& p, const StepInfo& s) {
  Cut cut;
  const bool pointwise = s.kind == StepKind::kPointwise, depthwise = s.kind == StepKind::kDepthwise;
  const bool free = pointwise && !s.trains;
  cut.block_columns = words.Whole("columns of a block", 0, free ? kWidestBlock : 0);
  Expect(cut.block_columns % kCutColumns == 0, "columns of a block are a multiple of 32");
  cut.row_parts = static_cast<int>(words.Whole("parts of a block's rows", 0, free ? s.count : 0));
  long most = 0;
  if (pointwise) most = p.batch * p.planes[s.first].height * p.planes[s.first].width;
  if (depthwise) most = s.count;
  cut.runs = words.Whole("runs of blocks or planes", 0, most);
  return cut;
}

// What all kinds have, then what the kind adds, then how it is cut.
StepInfo ReadStep(Words& words, const ProgramInfo& p) {
  StepInfo s;
  s.kind = static_cast<StepKind>(words.Whole("step kind", 0, kStepKinds - 1));
  const long planes = static_cast<long>(p.planes.size());
  const long inputs = words.Whole("step inputs", 0, planes);
  for (long i = 0; i < inputs; ++i) {
    s.inputs.push_back(static_cast<int>(words.Whole("input plane", 0, planes - 1)));
    s.accumulates.push_back(words.Flag("accumulates"));
  }
  s.first = static_cast<int>(words.Whole("first output plane", 0, planes));
  s.count = static_cast<int>(words.Whole("output planes", 0, planes - s.first));
  s.weights = words.Whole("weights offset", 0, p.parameter_count);
  s.bias = words.Whole("bias offset", -1, p.parameter_count);
  s.trains = words.Flag("trains");
  RowOf(s.kind).read(words, p, s);
  s.cut = ReadCut(words, p, s);
  return s;
}

}  // namespace

int64_t PlaneBytes(const PlaneInfo& plane, int batch, Storage storage) {
  const int64_t bytes = int64_t{batch} * plane.height * plane.width * (storage == Storage::kBf16 ? 2 : 4);
  return (bytes + 2 * kLine - 1) / (2 * kLine) * (2 * kLine) + kLine;
}

void ExpectOutputSize(const ProgramInfo& p, const StepInfo& s, long height, long width) {
  for (int i = s.first; i < s.first + s.count; ++i)
    Expect(p.planes[i].height == height && p.planes[i].width == width, "an output plane's size differs from its step's");
}

void ExpectInputSize(const ProgramInfo& p, const StepInfo& s, long height, long width) {
  for (int i : s.inputs)
    Expect(p.planes[i].height == height && p.planes[i].width == width, "an input plane's size differs from its step's");
}

void ExpectWeights(const ProgramInfo& p, const StepInfo& s, long count) {
  Expect(s.weights + count <= p.parameter_count, "weights reach past the parameters");
}

ProgramInfo DecodeProgram(const double* numbers, size_t count) {
  Words words(numbers, count);
  ProgramInfo p;
  if (words.Number("format") != kFormat) Refuse("program: format is not 7; rebuild the engine");
  p.training = words.Flag("training");
  p.batch = static_cast<int>(words.Whole("batch", 1, 1 << 20));
  p.image_size = static_cast<int>(words.Whole("image size", 1, kLongestSide));
  p.classes = static_cast<int>(words.Whole("classes", 1, 1 << 24));
  p.parameter_count = words.Whole("parameters", 1, kManyElements);
  p.trained_count = words.Whole("trained parameters", 0, p.parameter_count);
  const long planes = words.Whole("planes", 1, 1 << 20);
  p.epsilon = words.Number("epsilon");
  p.momentum = words.Number("batch-norm momentum");
  p.keeps_statistics = words.Flag("kept statistics");
  p.arena = words.Whole("arena", 0, kManyBytes);
  for (long i = 0; i < planes; ++i) {
    PlaneInfo plane;
    plane.height = words.Whole("plane height", 1, kLongestSide);
    plane.width = words.Whole("plane width", 1, kLongestSide);
    const auto storage = static_cast<Storage>(words.Whole("plane storage", 0, 1));
    Expect(i == 0 || storage == p.storage, "planes are stored alike");
    p.storage = storage;
#if defined(RIFFLE_F32_ONLY)
    Expect(storage == Storage::kF32, "this engine computes in f32");
#endif
    plane.relu = words.Flag("plane relu");
    const int64_t last = p.arena - PlaneBytes(plane, p.batch, p.storage);
    plane.value = words.Whole("plane value", 0, last);
    plane.gradient = words.Whole("plane gradient", -1, last);
    Expect(plane.value % kLine == 0 && (plane.gradient < 0 || plane.gradient % kLine == 0), "planes start on lines");
    plane.gamma = words.Whole("gamma offset", 0, p.parameter_count - 1);
    plane.beta = words.Whole("beta offset", 0, p.parameter_count - 1);
    p.planes.push_back(plane);
  }
  const long segments = words.Whole("segments", 0, 1 << 20);
  long end = 0;
  for (long i = 0; i < segments; ++i) {
    Segment s;
    s.begin = end;
    end = s.end = words.Whole("segment end", end, p.trained_count);
    s.decay = words.Flag("segment decay");
    s.rate = words.Number("segment rate");
    Expect(s.rate >= 0, "a segment's rate is not negative");
    p.segments.push_back(s);
  }
  Expect(end == p.trained_count, "segments cover the parameters that train");
  const long steps = words.Whole("steps", 1, 1 << 16);
  for (long i = 0; i < steps; ++i) {
    p.steps.push_back(ReadStep(words, p));
    Expect((p.steps.back().kind == StepKind::kHead) == (i == steps - 1), "the head is the last step");
  }
  while (p.first_training < steps && !p.steps[p.first_training].trains) ++p.first_training;
  for (long i = p.first_training; i < steps; ++i) Expect(p.steps[i].trains, "a step behind one that trains does not");
  Expect(p.training == (p.first_training < steps), "a training program trains its last step at least");
  p.frozen_planes = p.first_training < steps ? p.steps[p.first_training].first : static_cast<int>(planes);
  for (int i = 0; i < planes; ++i)
    Expect((p.planes[i].gradient >= 0) == (i >= p.frozen_planes), "planes of steps that train have gradients, others none");
  const long buckets = words.Whole("buckets", 0, steps - p.first_training);
  long bucket_end = 0, after_step = steps;
  for (long i = 0; i < buckets; ++i) {
    Bucket b;
    b.begin = bucket_end;
    b.end = bucket_end = words.Whole("bucket end", bucket_end + 1, p.trained_count);
    after_step = words.Whole("step of a bucket", p.first_training, after_step - 1);
    b.after_step = static_cast<int>(after_step);
    p.buckets.push_back(b);
  }
  Expect(bucket_end == p.trained_count, "buckets cover the parameters that train");
  Expect(words.AtEnd(), "words are left over");
  return p;
}

}  // namespace riffle

#include "program.h"

#include <cmath>
#include <string>

namespace riffle {
namespace {

constexpr double kFormat = 1;

class Reader {
 public:
  Reader(const double* words, size_t count) : words_(words), count_(count) {}

  double Number(const char* field) {
    if (at_ >= count_) throw std::invalid_argument(std::string("program ends before ") + field);
    return words_[at_++];
  }

  long Whole(const char* field, long low, long high) {
    const double v = Number(field);
    if (!(v >= static_cast<double>(low) && v <= static_cast<double>(high)) || v != std::floor(v))
      throw std::invalid_argument(std::string("program: ") + field + " is " + std::to_string(v) +
                                  ", expected a whole number from " + std::to_string(low) + " to " +
                                  std::to_string(high));
    return static_cast<long>(v);
  }

  bool Flag(const char* field) { return Whole(field, 0, 1) != 0; }
  bool AtEnd() const { return at_ == count_; }

 private:
  const double* words_;
  size_t count_;
  size_t at_ = 0;
};

constexpr long kManyElements = 1L << 40;
constexpr long kSide = 1 << 14;

Window ReadWindow(Reader& r) {
  Window w;
  w.in_h = static_cast<int>(r.Whole("window input height", 1, kSide));
  w.in_w = static_cast<int>(r.Whole("window input width", 1, kSide));
  w.out_h = static_cast<int>(r.Whole("window output height", 1, kSide));
  w.out_w = static_cast<int>(r.Whole("window output width", 1, kSide));
  w.stride = static_cast<int>(r.Whole("window stride", 1, 2));
  w.pad_top = static_cast<int>(r.Whole("window padding above", 0, 1));
  w.pad_left = static_cast<int>(r.Whole("window padding left", 0, 1));
  const auto fits = [&](int in, int out, int pad) {
    if (w.stride == 1) return out == in && pad == 1;
    // The last window begins inside the image and reaches at most one element past it, and no row is left over.
    return 2 * (out - 1) - pad < in && 2 * (out - 1) + 2 - pad <= in && in <= 2 * out + 1 - pad;
  };
  if (!fits(w.in_h, w.out_h, w.pad_top) || !fits(w.in_w, w.out_w, w.pad_left))
    throw std::invalid_argument("program: a window of stride " + std::to_string(w.stride) + " over " +
                                std::to_string(w.in_h) + "x" + std::to_string(w.in_w) + " cannot give " +
                                std::to_string(w.out_h) + "x" + std::to_string(w.out_w));
  return w;
}

void Expect(bool holds, const char* what) {
  if (!holds) throw std::invalid_argument(std::string("program: ") + what);
}

StepInfo ReadStep(Reader& r, const ProgramInfo& p) {
  StepInfo s;
  s.kind = static_cast<StepKind>(r.Whole("step kind", 0, 3));
  const long planes = static_cast<long>(p.planes.size());
  const long inputs = r.Whole("step inputs", 0, planes);
  for (long i = 0; i < inputs; ++i) {
    s.inputs.push_back(static_cast<int>(r.Whole("input plane", 0, planes - 1)));
    s.accumulates.push_back(r.Flag("accumulates"));
  }
  s.first = static_cast<int>(r.Whole("first output plane", 0, planes));
  s.count = static_cast<int>(r.Whole("output planes", 0, planes - s.first));
  s.weights = r.Whole("weights offset", 0, p.parameter_count);
  s.bias = r.Whole("bias offset", -1, p.parameter_count);

  const auto outputs_are = [&](long h, long w) {
    for (int i = s.first; i < s.first + s.count; ++i)
      Expect(p.planes[i].height == h && p.planes[i].width == w, "an output plane's size differs from its step's");
  };
  const auto inputs_are = [&](long h, long w) {
    for (int i : s.inputs)
      Expect(p.planes[i].height == h && p.planes[i].width == w, "an input plane's size differs from its step's");
  };
  const auto weights_fit = [&](long size) {
    Expect(s.weights + size <= p.parameter_count, "weights reach past the parameters");
  };
  switch (s.kind) {
    case StepKind::kStem: {
      s.window = ReadWindow(r);
      s.pooling = ReadWindow(r);
      for (int& c : s.channel_order) c = static_cast<int>(r.Whole("channel order", 0, 2));
      for (float& v : s.input_scale) v = static_cast<float>(r.Number("input scale"));
      for (float& v : s.input_shift) v = static_cast<float>(r.Number("input shift"));
      Expect(s.inputs.empty() && s.count >= 1 && s.count <= kStemMaxChannels, "the stem has 1 to 32 channels");
      Expect(s.window.stride == 2 && s.pooling.stride == 2, "the stem's strides are 2");
      Expect(s.window.in_h == p.image_size && s.window.in_w == p.image_size, "the stem reads the image");
      Expect(s.pooling.in_h == s.window.out_h && s.pooling.in_w == s.window.out_w, "pooling reads the convolution");
      const int* o = s.channel_order;
      Expect(o[0] != o[1] && o[0] != o[2] && o[1] != o[2], "channel order is a permutation");
      outputs_are(s.pooling.out_h, s.pooling.out_w);
      weights_fit(kStemPatch * static_cast<long>(s.count));
      break;
    }
    case StepKind::kPointwise:
      Expect(!s.inputs.empty() && s.count > 0, "a pointwise step has inputs and outputs");
      inputs_are(p.planes[s.first].height, p.planes[s.first].width);
      outputs_are(p.planes[s.first].height, p.planes[s.first].width);
      weights_fit(static_cast<long>(s.count) * inputs);
      break;
    case StepKind::kDepthwise:
      s.window = ReadWindow(r);
      Expect(s.count == inputs && s.count > 0, "a depthwise step has as many outputs as inputs");
      inputs_are(s.window.in_h, s.window.in_w);
      outputs_are(s.window.out_h, s.window.out_w);
      weights_fit(9L * s.count);
      break;
    case StepKind::kHead:
      Expect(!s.inputs.empty() && s.count == 0, "the head has inputs only");
      inputs_are(p.planes[s.inputs[0]].height, p.planes[s.inputs[0]].width);
      weights_fit(static_cast<long>(p.classes) * inputs);
      Expect(s.bias < 0 || s.bias + p.classes <= p.parameter_count, "the bias reaches past the parameters");
      break;
  }
  return s;
}

}  // namespace

long PlaneExtent(const PlaneInfo& plane, int batch) {
  return (batch * plane.height * plane.width + 31) / 32 * 32 + 16;
}

ProgramInfo DecodeProgram(const double* words, size_t count) {
  Reader r(words, count);
  ProgramInfo p;
  if (r.Number("format") != kFormat) throw std::invalid_argument("program: format is not 1; rebuild the addon");
  p.training = r.Flag("training");
  p.batch = static_cast<int>(r.Whole("batch", 1, 1 << 20));
  p.image_size = static_cast<int>(r.Whole("image size", 1, kSide));
  p.classes = static_cast<int>(r.Whole("classes", 1, 1 << 24));
  p.parameter_count = r.Whole("parameters", 1, kManyElements);
  const long planes = r.Whole("planes", 1, 1 << 20);
  p.gamma = r.Whole("gamma offset", 0, p.parameter_count - planes);
  p.beta = r.Whole("beta offset", 0, p.parameter_count - planes);
  p.epsilon = r.Number("epsilon");
  p.momentum = r.Number("batch-norm momentum");
  p.arena = r.Whole("arena", 0, kManyElements);
  for (long i = 0; i < planes; ++i) {
    PlaneInfo plane;
    plane.height = r.Whole("plane height", 1, kSide);
    plane.width = r.Whole("plane width", 1, kSide);
    plane.relu = r.Flag("plane relu");
    const long extent = PlaneExtent(plane, p.batch);
    plane.value = r.Whole("plane value", 0, p.arena - extent);
    plane.gradient = r.Whole("plane gradient", p.training ? 0 : -1, p.arena - extent);
    Expect(plane.value % 16 == 0 && (plane.gradient < 0 || plane.gradient % 16 == 0), "planes start on lines");
    p.planes.push_back(plane);
  }
  const long segments = r.Whole("segments", 0, 1 << 20);
  long end = 0;
  for (long i = 0; i < segments; ++i) {
    Segment s;
    s.begin = end;
    end = s.end = r.Whole("segment end", end, p.parameter_count);
    s.decay = r.Flag("segment decay");
    p.segments.push_back(s);
  }
  Expect(end == p.parameter_count, "segments cover the parameters");
  const long steps = r.Whole("steps", 1, 1 << 16);
  for (long i = 0; i < steps; ++i) p.steps.push_back(ReadStep(r, p));
  Expect(r.AtEnd(), "words are left over");
  return p;
}

}  // namespace riffle

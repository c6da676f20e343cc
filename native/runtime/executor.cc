#include "executor.h"

#include <sys/mman.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstring>
#include <new>
#include <stdexcept>

namespace riffle {
namespace {

double Now() {
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

long RoundUp(long n, long to) { return (n + to - 1) / to * to; }

// Groups of blocks that share a filter-gradient sum: enough to keep many threads busy, few enough that adding the
// groups' sums stays small beside making them (a group of 800 columns spends a few percent on it).
long MostGroups(long columns) { return std::clamp(columns / 800, 8L, 16L); }

// Columns of one block of a pointwise step: a multiple of the register tile's, decided by shape alone. Wide
// blocks add their filter sums up less often; but a block's rows of dz and y should stay in the second-level
// cache (half a megabyte is common), and there should be enough blocks, of even number, for threads to end together.
long BlockColumns(long columns, long inputs, long outputs, int lanes, bool training) {
  const long rows = training ? inputs + outputs : inputs;
  const long widest = std::clamp(96 * 1024 / rows, 128L, 512L);
  const long tile = std::max(16, 2 * lanes);  // blocks begin on lines of 16 floats
  long best = tile;
  double least = 1e300;
  for (long width = tile; width <= widest; width += tile) {
    const long blocks = (columns + width - 1) / width;
    const long tasks = training ? std::min(blocks, MostGroups(columns)) : blocks;
    const long task_columns = (blocks + tasks - 1) / tasks * width;
    double share = 0;  // how much longer than evenly divided the work takes
    for (const long threads : {2, 4, 8})
      share += static_cast<double>((tasks + threads - 1) / threads * threads * task_columns) / static_cast<double>(columns);
    // About 28 columns' worth of time goes into ending a filter tile.
    const double cost = share * (1.0 + 28.0 / static_cast<double>(width));
    if (cost < least) {
      least = cost;
      best = width;
    }
  }
  return best;
}

// Images of a depthwise step whose sums are added in f32: about a thousand values a lane sum at most.
int ImagesPerSum(const Window& w, int batch) {
  return static_cast<int>(std::clamp(1024L / (static_cast<long>(w.in_h) * w.in_w), 1L, static_cast<long>(batch)));
}

// Planes that a thread takes at a time: one where a plane is worth fetching a task for, some where it is a microsecond.
long PlanesPerTask(const StepInfo& s, int batch) {
  constexpr long kWorthATask = 8192;  // values
  const long values = static_cast<long>(batch) * s.window.out_h * s.window.out_w;
  return values >= kWorthATask ? 1 : std::max(1, s.count / 16);
}

// Elements per task of elementwise passes over the parameters.
constexpr long kChunk = 1 << 15;

}  // namespace

Arena::Arena(size_t floats) : bytes_(std::max<size_t>(1, floats) * sizeof(float)) {
  constexpr size_t kLargePage = 2 << 20;
  bytes_ = (bytes_ + 4095) / 4096 * 4096;
  void* p = mmap(nullptr, bytes_, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (p == MAP_FAILED) throw std::bad_alloc();
#ifdef MADV_HUGEPAGE
  if (bytes_ >= kLargePage) madvise(p, bytes_, MADV_HUGEPAGE);
#endif
  data_ = static_cast<float*>(p);
}

Arena::~Arena() { munmap(data_, bytes_); }

Executor::Executor(ProgramInfo program, const KernelTable& kernels, int threads)
    : p_(std::move(program)), k_(kernels), pool_(threads) {
  const size_t planes = p_.planes.size();
  mean_.assign(planes, 0);
  variance_.assign(planes, 1);
  gradient_sum_.assign(planes, 0);
  gradient_dot_.assign(planes, 0);
  scale_.assign(planes, 1);
  shift_.assign(planes, 0);
  count_.assign(planes, 1);
  forward_seconds_.assign(p_.steps.size(), 0);
  backward_seconds_.assign(p_.steps.size(), 0);

  size_t packed = 0, partials = 0, dw = 0;
  states_.resize(p_.steps.size());
  std::vector<size_t> packed_at(p_.steps.size()), transposed_at(p_.steps.size());
  for (size_t i = 0; i < p_.steps.size(); ++i) {
    const StepInfo& s = p_.steps[i];
    StepState& state = states_[i];
    const int inputs = static_cast<int>(s.inputs.size());
    if (s.kind == StepKind::kStem) {
      const Stem stem = StemFor(s);
      scratch_floats_ = std::max(scratch_floats_, k_.stem_scratch(stem));
      stem_weights_.assign(kStemPatch * kStemPatchPadded, 0);
      stem_gram_.assign(kStemPatch * kStemPatchPadded, 0);
      stem_signed_weights_ = stem_weights_;
      if (p_.training) {
        stem_winners_.assign(static_cast<size_t>(p_.batch) * s.pooling.out_h * s.pooling.out_w * kStemPatchPadded, 0);
        stem_partials_.assign(static_cast<size_t>(p_.batch) * kStemPatch * kStemPatchPadded, 0);
        dw = std::max<size_t>(dw, static_cast<size_t>(p_.batch) * kStemPatchPadded * kStemPatchPadded);
      }
      for (int c = s.first; c < s.first + s.count; ++c)
        count_[c] = static_cast<long>(p_.batch) * s.window.out_h * s.window.out_w;
      continue;
    }
    for (int c = s.first; c < s.first + s.count; ++c)
      count_[c] = p_.batch * p_.planes[c].height * p_.planes[c].width;
    if (s.kind == StepKind::kPointwise) {
      const long columns = count_[s.first];
      state.block_columns = BlockColumns(columns, inputs, s.count, k_.lanes, p_.training);
      state.blocks = (columns + state.block_columns - 1) / state.block_columns;
      state.groups = static_cast<int>(std::min(state.blocks, MostGroups(columns)));
      // With few columns, threads share a block's rows; each normalises the block for itself.
      const long tiles = (s.count + k_.tile_rows - 1) / k_.tile_rows;
      state.row_parts = p_.training ? 1 : static_cast<int>(std::min(std::max(4 / state.blocks, 1L), tiles));
      packed_at[i] = packed;
      packed += RoundUp(PackedSize(s.count, inputs, k_.tile_rows), 16);
      if (p_.training) {
        transposed_at[i] = packed;
        packed += RoundUp(PackedSize(inputs, s.count, k_.tile_rows), 16);
        dw = std::max<size_t>(dw, static_cast<size_t>(state.groups) * k_.dw_rows(s.count) * k_.dw_columns(inputs));
        scratch_floats_ =
            std::max(scratch_floats_, k_.pointwise_backward_scratch(inputs, s.count, state.block_columns));
      }
      partials = std::max<size_t>(partials, 2 * state.blocks * std::max(inputs, s.count));
      scratch_floats_ =
          std::max(scratch_floats_, k_.pointwise_forward_scratch(inputs, s.count, state.block_columns));
    } else if (s.kind == StepKind::kDepthwise) {
      partials = std::max<size_t>(partials, 2L * inputs * p_.batch);
      dw = std::max<size_t>(dw, 9L * inputs * p_.batch);
      scratch_floats_ = std::max(scratch_floats_, k_.depthwise_scratch(s.window));
    } else {
      feature_count_ = inputs;
      features_.assign(static_cast<size_t>(p_.batch) * inputs, 0);
      logits_.assign(static_cast<size_t>(p_.batch) * p_.classes, 0);
      if (p_.training) {
        partials = std::max<size_t>(partials, 2L * inputs * p_.batch);
        dlogits_.assign(logits_.size(), 0);
        dfeatures_.assign(features_.size(), 0);
        packed_dlogits_.assign(PackedSize(p_.batch, p_.classes, k_.tile_rows), 0);
        packed_dlogits_transposed_.assign(PackedSize(p_.classes, p_.batch, k_.tile_rows), 0);
      }
    }
  }
  scratch_floats_ = RoundUp(scratch_floats_, 1024) + 16;
  arena_ = std::make_unique<Arena>(p_.arena + 64);
  packed_ = std::make_unique<Arena>(packed);
  partials_ = std::make_unique<Arena>(partials + p_.parameter_count / kChunk + 64);
  dw_ = std::make_unique<Arena>(p_.training ? dw : 0);
  scratch_ = std::make_unique<Arena>(scratch_floats_ * pool_.threads());
  for (size_t i = 0; i < p_.steps.size(); ++i) {
    if (p_.steps[i].kind != StepKind::kPointwise) continue;
    states_[i].packed = packed_->data() + packed_at[i];
    if (p_.training) states_[i].packed_transposed = packed_->data() + transposed_at[i];
  }
}

float* Executor::plane(int id, bool gradient) {
  const long offset = gradient ? p_.planes[id].gradient : p_.planes[id].value;
  return offset < 0 ? nullptr : arena_->data() + offset;
}

void Executor::ReadTable(Table table, double* out) const {
  const size_t n = p_.planes.size();
  for (size_t i = 0; i < n; ++i) {
    switch (table) {
      case Table::kMean: out[i] = mean_[i]; break;
      case Table::kVariance: out[i] = variance_[i]; break;
      case Table::kScale: out[i] = scale_[i]; break;
      case Table::kShift: out[i] = shift_[i]; break;
      case Table::kGradientSum: out[i] = gradient_sum_[i]; break;
      case Table::kGradientDot: out[i] = gradient_dot_[i]; break;
    }
  }
}

void Executor::WriteTable(Table table, const double* in) {
  const size_t n = p_.planes.size();
  for (size_t i = 0; i < n; ++i) {
    switch (table) {
      case Table::kMean: mean_[i] = in[i]; break;
      case Table::kVariance: variance_[i] = in[i]; break;
      case Table::kScale: scale_[i] = static_cast<float>(in[i]); break;
      case Table::kShift: shift_[i] = static_cast<float>(in[i]); break;
      case Table::kGradientSum: gradient_sum_[i] = in[i]; break;
      case Table::kGradientDot: gradient_dot_[i] = in[i]; break;
    }
  }
}

// --- whole runs ---

StepResult Executor::ComputeGradients(const uint8_t* images, const int32_t* labels, const Weights& weights,
                                      const LossSettings& loss) {
  images_ = images;
  dropout_mask_ = loss.dropout_mask;
  PackAll(weights.parameters);
  Forward(weights);
  StepResult result = Loss(labels, weights, loss);
  for (size_t i = p_.steps.size(); i-- > 0;) {
    const double start = Now();
    BackwardStep(i, weights);
    backward_seconds_[i] = Now() - start;
  }
  const long chunks = (p_.parameter_count + kChunk - 1) / kChunk;
  std::vector<char> finite(chunks);
  pool_.Run(chunks, [&](long t, int) {
    finite[t] = k_.all_finite(weights.gradients + t * kChunk, std::min(kChunk, p_.parameter_count - t * kChunk));
  });
  result.finite = std::isfinite(result.cross_entropy) && std::isfinite(result.decay_loss) &&
                  std::all_of(finite.begin(), finite.end(), [](char f) { return f; });
  return result;
}

void Executor::ApplyUpdate(const Weights& w, const UpdateSettings& settings) {
  struct Range {
    long begin, end;
    bool decay;
  };
  std::vector<Range> ranges;
  for (const Segment& s : p_.segments)
    for (long begin = s.begin; begin < s.end; begin += kChunk)
      ranges.push_back({begin, std::min(begin + kChunk, s.end), s.decay});
  const Update base = {.parameters = w.parameters,
                       .momentum = w.momentum,
                       .averages = w.averages,
                       .gradients = w.gradients,
                       .learning_rate = static_cast<float>(settings.learning_rate),
                       .momentum_factor = static_cast<float>(settings.momentum),
                       .weight_decay = 0.0f,
                       .average_decay = static_cast<float>(settings.average_decay),
                       .nesterov = settings.nesterov};
  pool_.Run(static_cast<long>(ranges.size()), [&](long t, int) {
    Update u = base;
    u.weight_decay = ranges[t].decay ? static_cast<float>(settings.weight_decay) : 0.0f;
    k_.update(u, ranges[t].begin, ranges[t].end);
  });
  const size_t planes = p_.planes.size();
  const double share = 1.0 - p_.momentum;
  for (size_t i = 0; i < planes; ++i) {
    const double n = static_cast<double>(count_[i]);
    const double unbiased = variance_[i] * n / std::max(n - 1.0, 1.0);
    float& moving_mean = w.statistics[i];
    float& moving_variance = w.statistics[planes + i];
    moving_mean -= static_cast<float>(share * (moving_mean - mean_[i]));
    moving_variance -= static_cast<float>(share * (moving_variance - unbiased));
  }
}

void Executor::Load(const Weights& weights) {
  loaded_.assign(weights.parameters, weights.parameters + p_.parameter_count);
  PackAll(loaded_.data());
  const size_t planes = p_.planes.size();
  for (size_t i = 0; i < planes; ++i)
    Normalise(static_cast<int>(i), weights.statistics[i], weights.statistics[planes + i], weights.parameters);
}

void Executor::Infer(const uint8_t* images, int count, float* logits) {
  images_ = images;
  Forward({.parameters = loaded_.data()});
  std::copy_n(logits_.data(), static_cast<size_t>(count) * p_.classes, logits);
}

void Executor::RunStep(int index, bool backward, const Weights& weights) {
  PackStep(index, weights.parameters, false);
  if (p_.training) PackStep(index, weights.parameters, true);
  if (backward) {
    BackwardStep(index, weights);
  } else {
    ForwardStep(index, weights);
  }
}

void Executor::Forward(const Weights& weights) {
  for (size_t i = 0; i < p_.steps.size(); ++i) {
    const double start = Now();
    ForwardStep(i, weights);
    forward_seconds_[i] = Now() - start;
  }
}

void Executor::ForwardStep(size_t i, const Weights& weights) {
  const StepInfo& s = p_.steps[i];
  switch (s.kind) {
    case StepKind::kStem: return ForwardStem(s, weights);
    case StepKind::kPointwise: return ForwardPointwise(s, states_[i], weights);
    case StepKind::kDepthwise: return ForwardDepthwise(s, weights);
    case StepKind::kHead: return ForwardHead(s, weights);
  }
}

void Executor::BackwardStep(size_t i, const Weights& weights) {
  const StepInfo& s = p_.steps[i];
  switch (s.kind) {
    case StepKind::kStem: return BackwardStem(s, weights);
    case StepKind::kPointwise: return BackwardPointwise(s, states_[i], weights);
    case StepKind::kDepthwise: return BackwardDepthwise(s, weights);
    case StepKind::kHead: return BackwardHead(s, weights);
  }
}

// --- batch norm ---

InputPlane Executor::Input(int plane) const {
  return {arena_->data() + p_.planes[plane].value, scale_[plane], shift_[plane], p_.planes[plane].relu};
}

void Executor::Normalise(int plane, double mean, double variance, const float* parameters) {
  mean_[plane] = mean;
  variance_[plane] = variance;
  const double scale = parameters[p_.gamma + plane] / std::sqrt(variance + p_.epsilon);
  scale_[plane] = static_cast<float>(scale);
  shift_[plane] = static_cast<float>(parameters[p_.beta + plane] - mean * scale);
}

// With zhat = (z - mean) / sigma:  dbeta = sum g,  dgamma = sum g * zhat,
//   dz = gamma / sigma * (g - dbeta / n - zhat * dgamma / n) = a g + b z + c.
void Executor::OutputGradients(const StepInfo& s, const Weights& w, double n) {
  output_gradients_.resize(s.count);
  for (int i = 0; i < s.count; ++i) {
    const int plane = s.first + i;
    const double inverse = 1.0 / std::sqrt(variance_[plane] + p_.epsilon);
    const double dbeta = gradient_sum_[plane];
    const double dgamma = (gradient_dot_[plane] - mean_[plane] * dbeta) * inverse;
    w.gradients[p_.beta + plane] = static_cast<float>(dbeta);
    w.gradients[p_.gamma + plane] = static_cast<float>(dgamma);
    const double a = w.parameters[p_.gamma + plane] * inverse;
    const double b = -a * inverse * dgamma / n;
    const double c = -a * dbeta / n - b * mean_[plane];
    output_gradients_[i] = {arena_->data() + p_.planes[plane].gradient, arena_->data() + p_.planes[plane].value,
                            static_cast<float>(a), static_cast<float>(b), static_cast<float>(c)};
  }
}

// --- pointwise ---

void Executor::PackStep(size_t i, const float* parameters, bool transposed) {
  const StepInfo& s = p_.steps[i];
  if (s.kind != StepKind::kPointwise) return;
  const long inputs = static_cast<long>(s.inputs.size());
  if (transposed) {
    k_.pack_weights(parameters + s.weights, inputs, s.count, 1, inputs, states_[i].packed_transposed);
  } else {
    k_.pack_weights(parameters + s.weights, s.count, inputs, inputs, 1, states_[i].packed);
  }
}

void Executor::PackAll(const float* parameters) {
  const long kinds = p_.training ? 2 : 1;
  pool_.Run(static_cast<long>(p_.steps.size()) * kinds,
            [&](long t, int) { PackStep(t / kinds, parameters, t % kinds == 1); });
}

void Executor::ForwardPointwise(const StepInfo& s, const StepState& state, const Weights& w) {
  const int inputs = static_cast<int>(s.inputs.size());
  inputs_.clear();
  for (int plane : s.inputs) inputs_.push_back(Input(plane));
  outputs_.clear();
  for (int i = 0; i < s.count; ++i) outputs_.push_back(plane(s.first + i, false));
  float* sums = p_.training ? partials_->data() : nullptr;
  const PointwiseForward work = {.columns = p_.batch * p_.planes[s.first].height * p_.planes[s.first].width,
                                 .inputs = inputs,
                                 .outputs = s.count,
                                 .x = inputs_.data(),
                                 .z = outputs_.data(),
                                 .weights = state.packed,
                                 .sums = sums,
                                 .block_columns = state.block_columns,
                                 .row_parts = state.row_parts};
  pool_.Run(state.blocks * state.row_parts,
            [&](long t, int thread) { k_.pointwise_forward(work, t, Scratch(thread)); });
  if (!sums) return;
  for (int i = 0; i < s.count; ++i) {
    double sum = 0, squares = 0;
    for (long b = 0; b < state.blocks; ++b) {
      sum += sums[b * 2 * s.count + i];
      squares += sums[b * 2 * s.count + s.count + i];
    }
    const double n = static_cast<double>(count_[s.first + i]);
    const double mean = sum / n;
    Normalise(s.first + i, mean, std::max(squares / n - mean * mean, 0.0), w.parameters);
  }
}

void Executor::BackwardPointwise(const StepInfo& s, const StepState& state, const Weights& w) {
  const int inputs = static_cast<int>(s.inputs.size());
  OutputGradients(s, w, static_cast<double>(count_[s.first]));
  inputs_.clear();
  input_gradients_.clear();
  for (int i = 0; i < inputs; ++i) {
    inputs_.push_back(Input(s.inputs[i]));
    input_gradients_.push_back({plane(s.inputs[i], true), s.accumulates[i] != 0});
  }
  const PointwiseBackward work = {.columns = count_[s.first],
                                  .inputs = inputs,
                                  .outputs = s.count,
                                  .x = inputs_.data(),
                                  .dz = output_gradients_.data(),
                                  .gx = input_gradients_.data(),
                                  .weights = state.packed_transposed,
                                  .sums = partials_->data(),
                                  .dw = dw_->data(),
                                  .block_columns = state.block_columns,
                                  .groups = state.groups};
  pool_.Run(state.groups, [&](long t, int thread) { k_.pointwise_backward(work, t, Scratch(thread)); });
  for (int i = 0; i < inputs; ++i) {
    double sum = 0, dot = 0;
    for (long b = 0; b < state.blocks; ++b) {
      sum += partials_->data()[b * 2 * inputs + i];
      dot += partials_->data()[b * 2 * inputs + inputs + i];
    }
    gradient_sum_[s.inputs[i]] = sum;
    gradient_dot_[s.inputs[i]] = dot;
  }
  const long rows = k_.dw_rows(s.count), columns = k_.dw_columns(inputs);
  pool_.Run((s.count + 15) / 16, [&](long t, int) {
    for (long o = t * 16; o < std::min<long>(t * 16 + 16, s.count); ++o)
      k_.sum_parts(dw_->data() + o * columns, state.groups, rows * columns, 0, inputs,
                   w.gradients + s.weights + o * inputs);
  });
}

// --- depthwise ---

void Executor::ForwardDepthwise(const StepInfo& s, const Weights& w) {
  inputs_.clear();
  for (int plane : s.inputs) inputs_.push_back(Input(plane));
  outputs_.clear();
  for (int i = 0; i < s.count; ++i) outputs_.push_back(plane(s.first + i, false));
  float* sums = p_.training ? partials_->data() : nullptr;
  const DepthwiseForward work = {.images = p_.batch,
                                 .window = s.window,
                                 .x = inputs_.data(),
                                 .z = outputs_.data(),
                                 .weights = w.parameters + s.weights,
                                 .group = ImagesPerSum(s.window, p_.batch),
                                 .sums = sums};
  const long groups = (p_.batch + work.group - 1) / work.group;
  const long planes = PlanesPerTask(s, p_.batch);
  pool_.Run((s.count + planes - 1) / planes, [&](long t, int thread) {
    for (long i = t * planes; i < std::min<long>((t + 1) * planes, s.count); ++i)
      k_.depthwise_forward(work, i, Scratch(thread));
  });
  if (!sums) return;
  for (int i = 0; i < s.count; ++i) {
    double sum = 0, squares = 0;
    for (long g = 0; g < groups; ++g) {
      sum += sums[(i * groups + g) * 2];
      squares += sums[(i * groups + g) * 2 + 1];
    }
    const double n = static_cast<double>(count_[s.first + i]);
    const double mean = sum / n;
    Normalise(s.first + i, mean, std::max(squares / n - mean * mean, 0.0), w.parameters);
  }
}

void Executor::BackwardDepthwise(const StepInfo& s, const Weights& w) {
  OutputGradients(s, w, static_cast<double>(count_[s.first]));
  inputs_.clear();
  input_gradients_.clear();
  for (int i = 0; i < s.count; ++i) {
    inputs_.push_back(Input(s.inputs[i]));
    input_gradients_.push_back({plane(s.inputs[i], true), s.accumulates[i] != 0});
  }
  const DepthwiseBackward work = {.images = p_.batch,
                                  .window = s.window,
                                  .x = inputs_.data(),
                                  .dz = output_gradients_.data(),
                                  .gx = input_gradients_.data(),
                                  .weights = w.parameters + s.weights,
                                  .group = ImagesPerSum(s.window, p_.batch),
                                  .sums = partials_->data(),
                                  .dw = dw_->data()};
  const long groups = (p_.batch + work.group - 1) / work.group;
  pool_.Run(s.count, [&](long t, int thread) { k_.depthwise_backward(work, t, Scratch(thread)); });
  SumInputGradients(s, groups);
  for (int i = 0; i < s.count; ++i)
    for (int tap = 0; tap < 9; ++tap) {
      double sum = 0;
      for (long g = 0; g < groups; ++g) sum += dw_->data()[(i * groups + g) * 9 + tap];
      w.gradients[s.weights + i * 9L + tap] = static_cast<float>(sum);
    }
}

// From partial sums [inputs][groups][2].
void Executor::SumInputGradients(const StepInfo& s, long groups) {
  for (long i = 0; i < static_cast<long>(s.inputs.size()); ++i) {
    double sum = 0, dot = 0;
    for (long g = 0; g < groups; ++g) {
      sum += partials_->data()[(i * groups + g) * 2];
      dot += partials_->data()[(i * groups + g) * 2 + 1];
    }
    gradient_sum_[s.inputs[i]] = sum;
    gradient_dot_[s.inputs[i]] = dot;
  }
}

// --- stem ---

Stem Executor::StemFor(const StepInfo& s) const {
  Stem stem = {.images = p_.batch,
               .conv = s.window,
               .pool = s.pooling,
               .channels = s.count,
               .pixels = images_,
               .input_scale = {},
               .input_shift = {},
               .weights = stem_weights_.data()};
  std::copy_n(s.input_scale, 3, stem.input_scale);
  std::copy_n(s.input_shift, 3, stem.input_shift);
  return stem;
}

// The kernel reads pixels as they lie; the network's channel i is the image's channel_order[i].
void Executor::TakeStemWeights(const StepInfo& s, const float* parameters) {
  for (int o = 0; o < s.count; ++o)
    for (int i = 0; i < 3; ++i)
      for (int k = 0; k < 9; ++k)
        stem_weights_[(k * 3 + s.channel_order[i]) * kStemPatchPadded + o] = parameters[s.weights + (o * 3 + i) * 9 + k];
}

void Executor::ForwardStem(const StepInfo& s, const Weights& w) {
  TakeStemWeights(s, w.parameters);
  const Stem stem = StemFor(s);
  constexpr int kGram = kStemPatch * kStemPatchPadded;
  if (p_.training) {
    double* grams = stem_partials_.data();
    const StemStatistics work = {.stem = stem, .gram = grams};
    pool_.Run(p_.batch, [&](long t, int thread) { k_.stem_statistics(work, t, Scratch(thread)); });
    for (int i = 0; i < kGram; ++i) {
      double total = 0;
      for (long n = 0; n < p_.batch; ++n) total += grams[n * kGram + i];
      stem_gram_[i] = total;
    }
    for (int i = 0; i < kStemPatch; ++i)  // the kernel makes the upper triangle
      for (int j = 0; j < i; ++j) stem_gram_[i * kStemPatchPadded + j] = stem_gram_[j * kStemPatchPadded + i];
    const double n = static_cast<double>(count_[s.first]);
    for (int o = 0; o < s.count; ++o) {
      double sum = 0, squares = 0;
      for (int i = 0; i < kStemPatch; ++i) {
        const double wi = stem_weights_[i * kStemPatchPadded + o];
        sum += wi * StemSum(i);
        for (int j = 0; j < kStemPatch; ++j)
          squares += wi * stem_weights_[j * kStemPatchPadded + o] * stem_gram_[i * kStemPatchPadded + j];
      }
      const double mean = sum / n;
      Normalise(s.first + o, mean, std::max(squares / n - mean * mean, 0.0), w.parameters);
    }
  }
  float sign[kStemPatchPadded] = {};
  outputs_.clear();
  for (int o = 0; o < s.count; ++o) {
    const float scale = scale_[s.first + o];
    sign[o] = scale < 0 ? -1.0f : 1.0f;
    outputs_.push_back(plane(s.first + o, false));
  }
  for (int tap = 0; tap < kStemPatch; ++tap)
    for (int o = 0; o < kStemPatchPadded; ++o)
      stem_signed_weights_[tap * kStemPatchPadded + o] = stem_weights_[tap * kStemPatchPadded + o] * sign[o];
  Stem signed_stem = stem;
  signed_stem.weights = stem_signed_weights_.data();
  const StemForward work = {.stem = signed_stem,
                            .sign = sign,
                            .z = outputs_.data(),
                            .winners = p_.training ? stem_winners_.data() : nullptr,
                            .parts = p_.batch >= 8 ? 1 : std::min(8 / p_.batch, s.pooling.out_h)};
  pool_.Run(static_cast<long>(p_.batch) * work.parts, [&](long t, int thread) { k_.stem_forward(work, t, Scratch(thread)); });
}

void Executor::BackwardStem(const StepInfo& s, const Weights& w) {
  const Stem stem = StemFor(s);
  OutputGradients(s, w, static_cast<double>(count_[s.first]));
  std::vector<const float*> gradients;
  for (int o = 0; o < s.count; ++o) gradients.push_back(plane(s.first + o, true));
  const StemBackward work = {
      .stem = stem, .g = gradients.data(), .winners = stem_winners_.data(), .dw = dw_->data()};
  pool_.Run(p_.batch, [&](long t, int thread) { k_.stem_backward(work, t, Scratch(thread)); });
  // dW = a * (sum over winners) + b * W G + c * s. The numbers a, b, c are wanted in full here: the two large
  // terms cancel in part.
  const double n = static_cast<double>(count_[s.first]);
  for (int o = 0; o < s.count; ++o) {
    const int p = s.first + o;
    const double inverse = 1.0 / std::sqrt(variance_[p] + p_.epsilon);
    const double dgamma = (gradient_dot_[p] - mean_[p] * gradient_sum_[p]) * inverse;
    const double a = w.parameters[p_.gamma + p] * inverse;
    const double b = -a * inverse * dgamma / n;
    const double c = -a * gradient_sum_[p] / n - b * mean_[p];
    for (int tap = 0; tap < kStemPatch; ++tap) {
      double winners = 0, product = 0;
      for (long image = 0; image < p_.batch; ++image)
        winners += dw_->data()[(image * kStemPatchPadded + o) * kStemPatchPadded + tap];
      for (int j = 0; j < kStemPatch; ++j)
        product += stem_weights_[j * kStemPatchPadded + o] * stem_gram_[j * kStemPatchPadded + tap];
      const int image_channel = tap % 3;
      const int channel = static_cast<int>(std::find(s.channel_order, s.channel_order + 3, image_channel) - s.channel_order);
      w.gradients[s.weights + (o * 3 + channel) * 9 + tap / 3] =
          static_cast<float>(a * winners + b * product + c * StemSum(tap));
    }
  }
}

// --- head ---

void Executor::ForwardHead(const StepInfo& s, const Weights& w) {
  const long features = feature_count_;
  inputs_.clear();
  for (int plane : s.inputs) inputs_.push_back(Input(plane));
  const PlaneInfo& shape = p_.planes[s.inputs[0]];
  const GlobalAverage average = {.images = p_.batch,
                                 .pixels = shape.height * shape.width,
                                 .x = inputs_.data(),
                                 .features = features_.data(),
                                 .stride = features};
  pool_.Run((features + 7) / 8, [&](long t, int) {
    for (long i = t * 8; i < std::min(t * 8 + 8, features); ++i) k_.global_average(average, i);
  });
  if (dropout_mask_)
    for (size_t i = 0; i < features_.size(); ++i) features_[i] *= dropout_mask_[i];
  const MatrixProductTransposed product = {.rows = p_.batch,
                                           .columns = p_.classes,
                                           .depth = features,
                                           .a = features_.data(),
                                           .lda = features,
                                           .b = w.parameters + s.weights,
                                           .ldb = features,
                                           .c = logits_.data(),
                                           .ldc = p_.classes};
  // Whole register tiles of rows (6 at the widest) and, with few rows, of classes.
  const long row_tasks = (p_.batch + 5) / 6;
  const long parts = row_tasks >= 8 ? 1 : std::min<long>(8, (p_.classes + 63) / 64);
  const long part = RoundUp((p_.classes + parts - 1) / parts, 4);
  pool_.Run(row_tasks * parts, [&](long t, int) {
    MatrixProductTransposed piece = product;
    const long begin = t % parts * part;
    if (begin >= p_.classes) return;
    piece.columns = std::min(part, p_.classes - begin);
    piece.b += begin * features;
    piece.c += begin;
    k_.matrix_product_transposed(piece, t / parts * 6, std::min<long>(t / parts * 6 + 6, p_.batch));
  });
  if (s.bias >= 0)
    for (long n = 0; n < p_.batch; ++n)
      for (long c = 0; c < p_.classes; ++c) logits_[n * p_.classes + c] += w.parameters[s.bias + c];
}

StepResult Executor::Loss(const int32_t* labels, const Weights& w, const LossSettings& loss) {
  const long classes = p_.classes;
  std::vector<double> each(p_.batch);
  std::vector<char> first(p_.batch), five(p_.batch);
  pool_.Run(p_.batch, [&](long n, int) {
    const float* logits = logits_.data() + n * classes;
    float* dlogits = dlogits_.data() + n * classes;
    const float label_logit = logits[labels[n]];
    double largest = logits[0], sum_logits = 0;
    long above = 0, above_or_first = 0;
    for (long c = 0; c < classes; ++c) {
      largest = std::max<double>(largest, logits[c]);
      sum_logits += logits[c];
      above += logits[c] > label_logit;
      above_or_first += logits[c] > label_logit || (logits[c] == label_logit && c < labels[n]);
    }
    double total = 0;
    for (long c = 0; c < classes; ++c) total += std::exp(logits[c] - largest);
    const double log_total = largest + std::log(total);
    // target = (1 - s) onehot + s / classes, so the loss is log_total - (1 - s) label logit - s * mean logit.
    const double s = loss.label_smoothing;
    each[n] = log_total - (1 - s) * label_logit - s * sum_logits / static_cast<double>(classes);
    for (long c = 0; c < classes; ++c) {
      const double target = (c == labels[n] ? 1 - s : 0) + s / static_cast<double>(classes);
      dlogits[c] = static_cast<float>((std::exp(logits[c] - log_total) - target) / p_.batch);
    }
    const bool finite = std::isfinite(label_logit);
    first[n] = finite && above_or_first == 0;
    five[n] = finite && above < 5;
  });
  StepResult result;
  for (long n = 0; n < p_.batch; ++n) {
    result.cross_entropy += each[n] / p_.batch;
    result.correct1 += first[n];
    result.correct5 += five[n];
  }
  std::vector<Segment> chunks;
  for (const Segment& s : p_.segments)
    for (long begin = s.begin; s.decay && begin < s.end; begin += kChunk)
      chunks.push_back({begin, std::min(begin + kChunk, s.end), true});
  std::vector<double> squares(chunks.size());
  pool_.Run(static_cast<long>(chunks.size()), [&](long t, int) {
    squares[t] = k_.sum_of_squares(w.parameters + chunks[t].begin, chunks[t].end - chunks[t].begin);
  });
  for (double v : squares) result.decay_loss += loss.weight_decay * v / 2;
  return result;
}

void Executor::BackwardHead(const StepInfo& s, const Weights& w) {
  const long features = feature_count_, classes = p_.classes, batch = p_.batch;
  if (s.bias >= 0)
    for (long c = 0; c < classes; ++c) {
      double sum = 0;
      for (long n = 0; n < batch; ++n) sum += dlogits_[n * classes + c];
      w.gradients[s.bias + c] = static_cast<float>(sum);
    }
  k_.pack_weights(dlogits_.data(), classes, batch, 1, classes, packed_dlogits_transposed_.data());
  k_.pack_weights(dlogits_.data(), batch, classes, classes, 1, packed_dlogits_.data());
  const MatrixProduct dw = {.rows = classes,
                            .columns = features,
                            .depth = batch,
                            .a = packed_dlogits_transposed_.data(),
                            .b = features_.data(),
                            .ldb = features,
                            .c = w.gradients + s.weights,
                            .ldc = features};
  pool_.Run((classes + k_.tile_rows - 1) / k_.tile_rows, [&](long t, int) { k_.matrix_product(dw, t, t + 1); });
  const MatrixProduct dfeatures = {.rows = batch,
                                   .columns = features,
                                   .depth = classes,
                                   .a = packed_dlogits_.data(),
                                   .b = w.parameters + s.weights,
                                   .ldb = features,
                                   .c = dfeatures_.data(),
                                   .ldc = features};
  pool_.Run((batch + k_.tile_rows - 1) / k_.tile_rows,
            [&](long t, int) { k_.matrix_product(dfeatures, t, t + 1); });
  if (dropout_mask_)
    for (size_t i = 0; i < dfeatures_.size(); ++i) dfeatures_[i] *= dropout_mask_[i];

  inputs_.clear();
  outputs_.clear();
  for (int i : s.inputs) {
    inputs_.push_back(Input(i));
    outputs_.push_back(plane(i, true));
  }
  const PlaneInfo& shape = p_.planes[s.inputs[0]];
  const GlobalAverageBackward average = {.images = p_.batch,
                                         .pixels = shape.height * shape.width,
                                         .x = inputs_.data(),
                                         .g = outputs_.data(),
                                         .gradient = dfeatures_.data(),
                                         .stride = features,
                                         .sums = partials_->data()};
  pool_.Run((features + 7) / 8, [&](long t, int) {
    for (long i = t * 8; i < std::min(t * 8 + 8, features); ++i) k_.global_average_backward(average, i);
  });
  SumInputGradients(s, batch);
}

}  // namespace riffle

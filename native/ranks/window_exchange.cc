#include <linux/futex.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <atomic>
#include <cstring>

#include "exchanges.h"

namespace riffle {
namespace {

constexpr long kPage = 4096;
constexpr int kSpins = 2000;

long Pages(long bytes) { return (bytes + kPage - 1) / kPage * kPage; }

// Where all meet: nobody passes before everybody has arrived.
struct Gate {
  std::atomic<uint32_t> arrived{0}, generation{0};
};

// The beginning of each rank's part of the window; the gates are those of the first.
struct Control {
  Gate ready, summed, taken, small;
  alignas(64) OperationHeader gradients;
  OperationHeader sums[2];  // by turns, as the numbers are
};

enum Kind { kGradients = 1, kSmall = 2 };

// The kernel's own word for another process's change of a word; std::atomic's waits see those of one process only.
void SleepWhile(std::atomic<uint32_t>& word, uint32_t value) {
  const timespec longest{0, 50'000'000};
  syscall(SYS_futex, &word, FUTEX_WAIT, value, &longest, nullptr, 0);
}

void WakeAll(std::atomic<uint32_t>& word) { syscall(SYS_futex, &word, FUTEX_WAKE, INT32_MAX, nullptr, nullptr, 0); }

class WindowExchange : public Exchange {
 public:
  WindowExchange(Communicator& ranks, const ProgramInfo& program)
      : ranks_(ranks),
        parameters_(program.parameter_count),
        trained_(program.trained_count),
        tail_(64 + 2 * static_cast<long>(program.planes.size())),
        gradients_at_(Pages(sizeof(Control))),
        tail_at_(gradients_at_ + Pages(parameters_ * static_cast<long>(sizeof(float)))),
        small_at_(tail_at_ + Pages(tail_ * static_cast<long>(sizeof(double)))) {
    const long bytes = small_at_ + 2 * Pages(tail_ * static_cast<long>(sizeof(double)));
    memory_ = ranks.mpi().Share(ranks.neighbours(), bytes);
    std::memset(memory_[rank()], 0, bytes);
    new (memory_[rank()]) Control;
    ranks.Gather("window", "", true);  // nobody uses a gate before it is made
  }

  int size() const override { return ranks_.size(); }
  float* GradientMemory() override { return Gradients(rank()); }

  void Begin(ThreadPool& pool, float scale) override {
    pool_ = &pool;
    scale_ = scale;
    AwaitTaken();  // the gradients are written anew now
  }

  void AwaitTaken() override {
    if (!leaves_) return;
    const Watch::Waiting waiting(ranks_.watch(), Common::kBegin, false, Phase::kExchanging);
    Pass(first().taken, leaving_);
    leaves_ = false;
  }

  void Ready(int, float*, long) override {}
  void Progress() override {}

  void Finish(double* tail, long count) override {
    const Watch::Waiting waiting(ranks_.watch(), Common::kGradients, false, Phase::kExchanging);
    std::memcpy(Tail(rank()), tail, count * sizeof(double));
    control(rank()).gradients = Announced(kGradients, trained_);
    Pass(first().ready, Arrive(first().ready));
    ExpectAllSame([](const Control& c) { return c.gradients; });

    std::vector<const float*> gradients;
    std::vector<const double*> tails;
    for (int r = 0; r < size(); ++r) {
      gradients.push_back(Gradients(r));
      tails.push_back(Tail(r));
    }
    const long begin = SliceBegin(trained_, rank(), size()), end = SliceBegin(trained_, rank() + 1, size());
    InChunks(begin, end, [&](long from, long to) { SumParts(gradients.data(), size(), from, to, scale_, Gradients(rank())); });
    SumParts(tails.data(), size(), 0, count, 1.0, tail);
    Pass(first().summed, Arrive(first().summed));

    for (int r = 0; r < size(); ++r) {
      if (r == rank()) continue;
      InChunks(SliceBegin(trained_, r, size()), SliceBegin(trained_, r + 1, size()),
               [&](long from, long to) { std::copy(gradients[r] + from, gradients[r] + to, Gradients(rank()) + from); });
    }
    leaving_ = Arrive(first().taken);
    leaves_ = true;
  }

  void Sum(double* values, long count) override {
    const Watch::Waiting waiting(ranks_.watch(), Common::kSum, false, Phase::kExchanging);
    // By turns in two places: whoever is one sum ahead does not write where others still read.
    const int turn = turn_;
    const long at = small_at_ + turn * Pages(tail_ * static_cast<long>(sizeof(double)));
    turn_ = 1 - turn_;
    std::memcpy(memory_[rank()] + at, values, count * sizeof(double));
    control(rank()).sums[turn] = Announced(kSmall, count);
    Pass(first().small, Arrive(first().small));
    ExpectAllSame([turn](const Control& c) { return c.sums[turn]; });
    std::vector<const double*> parts;
    for (char* memory : memory_) parts.push_back(reinterpret_cast<const double*>(memory + at));
    SumParts(parts.data(), size(), 0, count, 1.0, values);
  }

 private:
  int rank() const { return ranks_.neighbours().rank; }
  Control& control(int r) const { return *reinterpret_cast<Control*>(memory_[r]); }
  Control& first() const { return control(0); }
  float* Gradients(int r) const { return reinterpret_cast<float*>(memory_[r] + gradients_at_); }
  double* Tail(int r) const { return reinterpret_cast<double*>(memory_[r] + tail_at_); }

  uint32_t Arrive(Gate& gate) const {
    const uint32_t generation = gate.generation.load();
    if (gate.arrived.fetch_add(1) + 1 == static_cast<uint32_t>(size())) {
      gate.arrived.store(0);
      gate.generation.store(generation + 1);
      WakeAll(gate.generation);
    }
    return generation;
  }

  void Pass(Gate& gate, uint32_t generation) const {
    for (int spins = ranks_.has_cores() ? kSpins : 0; spins > 0; --spins) {
      if (gate.generation.load() != generation) return;
#if defined(__x86_64__)
      __builtin_ia32_pause();
#endif
    }
    while (gate.generation.load() == generation) SleepWhile(gate.generation, generation);
  }

  OperationHeader Announced(int64_t kind, int64_t count) { return {.sequence = ++sequence_, .kind = kind, .count = count}; }

  template <class Header>
  void ExpectAllSame(const Header& header) const {
    for (int r = 0; r < size(); ++r) ExpectSame(header(control(rank())), header(control(r)), rank(), r);
  }

  template <class Body>
  void InChunks(long begin, long end, const Body& body) const {
    constexpr long kPart = 1 << 15;
    pool_->Run((end - begin + kPart - 1) / kPart,
               [&](long t, int) { body(begin + t * kPart, std::min(begin + (t + 1) * kPart, end)); });
  }

  Communicator& ranks_;
  const long parameters_, trained_, tail_;
  const long gradients_at_, tail_at_, small_at_;  // bytes
  std::vector<char*> memory_;
  ThreadPool* pool_ = nullptr;
  float scale_ = 1;
  int64_t sequence_ = 0;
  uint32_t leaving_ = 0;
  bool leaves_ = false;
  int turn_ = 0;
};

}  // namespace

std::unique_ptr<Exchange> MakeWindowExchange(Communicator& ranks, const ProgramInfo& program) {
  return std::make_unique<WindowExchange>(ranks, program);
}

void ExpectSame(const OperationHeader& mine, const OperationHeader& theirs, int my_rank, int their_rank) {
  if (mine == theirs) return;
  const auto words = [](const OperationHeader& h) {
    return "operation " + std::to_string(h.sequence) + ", kind " + std::to_string(h.kind) + ", " + std::to_string(h.count) + " numbers";
  };
  throw RanksError("ranks do not exchange the same: rank " + std::to_string(my_rank) + " " + words(mine) + "; rank " +
                   std::to_string(their_rank) + " " + words(theirs));
}

}  // namespace riffle

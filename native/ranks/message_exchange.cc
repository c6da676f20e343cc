#include <algorithm>
#include <cstring>
#include <deque>

#include "exchanges.h"

namespace riffle {
namespace {

constexpr long kHeader = 64;  // bytes before each slice, a line
static_assert(sizeof(OperationHeader) <= kHeader);

// Kinds of numbers, as the header names them.
enum Kind { kFloats = 1, kDoubles = 2 };

class MessageExchange : public Exchange {
 public:
  MessageExchange(Communicator& ranks, const ProgramInfo& program, bool overlaps)
      : ranks_(ranks), mpi_(ranks.mpi()), overlaps_(overlaps) {
    long largest = static_cast<long>((2 * program.planes.size() + 64) * sizeof(double)), all = 0;
    for (const Bucket& b : program.buckets) {
      const long bytes = (b.end - b.begin) * static_cast<long>(sizeof(float));
      largest = std::max(largest, bytes);
      all += bytes;
    }
    slot_ = kHeader + (largest / size() / 64 + 5) * 64;  // slices begin at whole lines
    // As many on their way at a time as a copy of the gradients and two buckets hold; each takes a bucket out and one in.
    const size_t flights = std::clamp<long>((all + 2 * largest) / (2 * largest), 1, 8);
    for (size_t i = 0; i < flights; ++i) {
      Flight& flight = flights_.emplace_back();
      flight.out.resize(slot_ * size());
      flight.in.resize(slot_ * size());
      flight.sends.resize(2 * size());
      flight.receives.resize(size());
    }
  }

  int size() const override { return ranks_.size(); }

  void Begin(ThreadPool&, float scale) override { scale_ = scale; }

  void Ready(int, float* begin, long count) override {
    queue_.push_back({kFloats, begin, count, scale_});
    if (overlaps_) Progress();
  }

  void Progress() override {
    if (queue_.empty() && flying_ == 0) return;
    if (overlaps_ || finishing_) Advance();
  }

  void Finish(double* tail, long count) override {
    const Watch::Waiting waiting(ranks_.watch(), Common::kGradients, false, Phase::kExchanging);
    queue_.push_back({kDoubles, tail, count, 1});
    AwaitAll();
  }

  void Sum(double* values, long count) override {
    const Watch::Waiting waiting(ranks_.watch(), Common::kSum, false, Phase::kExchanging);
    queue_.push_back({kDoubles, values, count, 1});
    AwaitAll();
  }

 private:
  struct Work {
    Kind kind;
    void* begin;
    long count;
    double scale;
  };

  // Numbers on their way: slices out and in, then sums out and in.
  struct Flight {
    Work work{};
    OperationHeader header;
    int tag = 0;
    bool flies = false, sums = false;
    std::vector<char> out, in;  // [rank] header and slice
    std::vector<Mpi::Handle> sends, receives;
  };

  void AwaitAll() {
    finishing_ = true;
    ranks_.WaitUntil([this] {
      Advance();
      return queue_.empty() && flying_ == 0;
    });
    finishing_ = false;
  }

  void Advance() {
    for (Flight& flight : flights_) {
      if (!flight.flies && !queue_.empty()) Start(flight);
      if (flight.flies) Move(flight);
    }
  }

  void Start(Flight& f) {
    f.work = queue_.front();
    queue_.pop_front();
    f.header = {.sequence = ++sequence_, .kind = f.work.kind, .count = f.work.count};
    f.tag = ranks_.NextTag();
    f.flies = true;
    f.sums = false;
    ++flying_;
    Receive(f, f.tag);
    for (int r = 0; r < size(); ++r) {
      if (r == ranks_.rank()) continue;
      Pack(f, r, r);
      f.sends[r] = mpi_.Send(Out(f, r), kHeader + Bytes(f, r), r, f.tag);
    }
  }

  void Move(Flight& f) {
    bool arrived = true, sent = true;
    for (int r = 0; r < size(); ++r) {
      if (Mpi::IsNull(f.receives[r])) continue;
      if (HasArrived(f, r)) {
        ExpectSame(f.header, *reinterpret_cast<const OperationHeader*>(In(f, r)), ranks_.rank(), r);
        ranks_.watch().Miss(r, false);
      } else {
        arrived = false;
      }
    }
    for (Mpi::Handle& send : f.sends) sent &= mpi_.Test(send);
    if (!arrived) return;
    if (!f.sums) return SumAndSend(f);
    if (!sent) return;
    for (int r = 0; r < size(); ++r)
      if (r != ranks_.rank()) std::memcpy(static_cast<char*>(f.work.begin) + Offset(f, r), In(f, r) + kHeader, Bytes(f, r));
    f.flies = false;
    --flying_;
  }

  bool HasArrived(Flight& f, int r) {
    try {
      return mpi_.Test(f.receives[r]);
    } catch (const Truncated&) {
      throw RanksError("ranks do not exchange the same: rank " + std::to_string(r) + " sends more than the " + std::to_string(slot_) +
                       " bytes that rank " + std::to_string(ranks_.rank()) + " has for its " + std::to_string(f.work.count) + " numbers");
    }
  }

  void SumAndSend(Flight& f) {
    const int own = ranks_.rank();
    if (f.work.kind == kFloats) AddUp<float>(f);
    else AddUp<double>(f);
    f.sums = true;
    Pack(f, own, own);
    Receive(f, f.tag + 1);
    for (int r = 0; r < size(); ++r)
      if (r != own) f.sends[size() + r] = mpi_.Send(Out(f, own), kHeader + Bytes(f, own), r, f.tag + 1);
  }

  template <class T>
  void AddUp(Flight& f) {
    const int own = ranks_.rank();
    T* slice = static_cast<T*>(f.work.begin) + Begin(f, own);
    std::vector<const T*> parts;
    for (int r = 0; r < size(); ++r) parts.push_back(r == own ? slice : reinterpret_cast<const T*>(In(f, r) + kHeader));
    SumParts(parts.data(), size(), 0, Begin(f, own + 1) - Begin(f, own), static_cast<T>(f.work.scale), slice);
  }

  // Of slices first everybody sends mine, of sums everybody sends its own.
  void Receive(Flight& f, int tag) {
    for (int r = 0; r < size(); ++r) {
      if (r == ranks_.rank()) continue;
      std::memset(In(f, r), 0, kHeader);
      f.receives[r] = mpi_.Receive(In(f, r), slot_, r, tag);
      ranks_.watch().Miss(r, true);
    }
  }

  void Pack(Flight& f, int place, int slice) {
    std::memcpy(Out(f, place), &f.header, sizeof f.header);
    std::memcpy(Out(f, place) + kHeader, static_cast<const char*>(f.work.begin) + Offset(f, slice), Bytes(f, slice));
  }

  char* Out(Flight& f, int r) const { return f.out.data() + r * slot_; }
  char* In(Flight& f, int r) const { return f.in.data() + r * slot_; }
  long Width(const Flight& f) const { return f.work.kind == kFloats ? sizeof(float) : sizeof(double); }
  long Begin(const Flight& f, int slice) const { return SliceBegin(f.work.count, slice, size()); }
  long Offset(const Flight& f, int slice) const { return Begin(f, slice) * Width(f); }
  long Bytes(const Flight& f, int slice) const { return Offset(f, slice + 1) - Offset(f, slice); }

  Communicator& ranks_;
  Mpi& mpi_;
  const bool overlaps_;
  long slot_ = 0;
  float scale_ = 1;
  std::deque<Work> queue_;
  std::vector<Flight> flights_;
  int flying_ = 0;
  bool finishing_ = false;
  int64_t sequence_ = 0;
};

}  // namespace

std::unique_ptr<Exchange> MakeMessageExchange(Communicator& ranks, const ProgramInfo& program, bool overlaps) {
  return std::make_unique<MessageExchange>(ranks, program, overlaps);
}

}  // namespace riffle

// Who is late. Ranks of one machine see each other's slot on a board in shared memory; of others each knows from whom a message is
// missing. A thread of its own looks at both while the rank waits, because whoever waits cannot.
#pragma once

#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

namespace riffle {

// What a rank is doing, in the order of src/distributed/join.ts.
enum class Phase : int32_t { kStarting, kLoading, kComputing, kExchanging, kSaving, kEvaluating, kEnding };

// What all ranks do together; the n-th is the same on all of them.
enum class Common : int64_t { kGather = 1, kBegin, kGradients, kSum };

// A rank's place on the board of its machine.
struct alignas(128) Slot {
  std::atomic<int64_t> heartbeat;  // milliseconds of the machine's monotonic clock, by the watching thread
  std::atomic<int64_t> arrivals;   // how many common operations it has come to, and below that in four digits to base 8 which the last ones are
  std::atomic<int64_t> step;
  std::atomic<int32_t> phase;
  std::atomic<int32_t> pid, rank;
  std::atomic<int64_t> pid_namespace;  // a number of a process means nothing in another
  std::atomic<int32_t> failing;        // it says itself what ends it
};

class Watch {
 public:
  // `slots` are of this machine's ranks, mine among them at `own`, which is filled here.
  Watch(int rank, int size, std::vector<Slot*> slots, int own);
  ~Watch();
  Watch(const Watch&) = delete;
  Watch& operator=(const Watch&) = delete;

  // From here on it looks at the others, whose slots are filled by now.
  void Begin() { begun_ = true; }

  void SetTimeout(double seconds) { timeout_ = seconds; }
  // What is said after the fault: what is safe and how to go on.
  void SetAdvice(const std::string& advice);
  void SetPlace(Phase phase, int64_t step);
  Phase phase() const { return static_cast<Phase>(own_.phase.load()); }
  // Whoever was asked to stop does not wait long for those who may be gone.
  void RequestStop() { stopping_ = true; }
  // From here on this rank says what happened.
  void Failing();

  // Marks a wait in a common operation, from the call to the end of its life. A patient one lasts as long as it takes, while
  // the others are alive.
  class Waiting {
   public:
    Waiting(Watch& watch, Common what, bool patient, Phase phase);
    ~Waiting();
    Waiting(const Waiting&) = delete;
    Waiting& operator=(const Waiting&) = delete;

   private:
    Watch& watch_;
    const Phase before_;
  };
  // A message of that rank is missing, or has come.
  void Miss(int rank, bool missing) { missing_[rank].store(missing, std::memory_order_relaxed); }

 private:
  struct Late {
    int rank;
    std::string place;  // "; last seen ..."
    int64_t silent;     // milliseconds
    bool lives, dead;   // neither is known of other machines
    bool busy;          // saves or evaluates
    bool failing;
    int32_t pid;        // 0 where it cannot be told
  };

  void Look();
  void LookTogether(int64_t now, int64_t since);
  const Slot* FindElsewhere() const;
  std::vector<Late> FindLate(int64_t now) const;
  void End(const std::string& what);

  const int rank_, size_;
  const std::vector<Slot*> slots_;
  Slot& own_;
  std::vector<std::atomic<bool>> missing_;  // [size]
  std::atomic<double> timeout_{600};
  std::atomic<bool> stopping_{false}, begun_{false};
  std::atomic<int64_t> since_{0};  // milliseconds; 0: not waiting
  std::atomic<bool> patient_{false};
  int64_t warned_ = 0;            // the wait that was warned of
  int64_t met_ = 0, met_at_ = 0;  // the wait in which all have met, and when that was seen
  std::mutex mutex_;
  std::condition_variable wake_;
  std::string advice_;
  bool end_ = false;
  std::thread thread_;
};

}  // namespace riffle

#include "watch.h"

#include <signal.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>

namespace riffle {
namespace {

constexpr int64_t kLook = 100;           // milliseconds between two looks
constexpr int64_t kWarnAfter = 10'000;   // of silence; sooner where the time-out is short
constexpr int64_t kPulse = 3'000;        // a living rank's heart beats more often than that
constexpr int64_t kStopPatience = 5'000; // of a rank that was asked to stop
constexpr int64_t kGrace = 2'000;        // for the rank that reports, before the others end too
constexpr int64_t kKinds = 8;            // of common operations, see Slot
constexpr int kHistory = 4;
constexpr int64_t kRemembered = kKinds * kKinds * kKinds * kKinds;
constexpr int kExitCode = 7;             // docs/exit-codes.md: ranks

const char* const kDoing[] = {"starting", "waiting for pictures", "computing", "exchanging gradients", "saving", "evaluating", "ending"};
const char* const kTogether[] = {"begins", "gathers", "begins a step", "adds gradients", "adds numbers"};
const char* const kWaiting[] = {"start", "pictures", "computing", "exchange of gradients", "saving", "evaluation", "end"};

int64_t Now() {
  timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return static_cast<int64_t>(t.tv_sec) * 1000 + t.tv_nsec / 1'000'000;
}

int64_t PidNamespace() {
  struct stat about;
  return stat("/proc/self/ns/pid", &about) == 0 ? static_cast<int64_t>(about.st_ino) : -1;
}

std::string Grouped(int64_t number) {
  const std::string digits = std::to_string(number);
  std::string text;
  for (size_t i = 0; i < digits.size(); ++i) {
    if (i > 0 && (digits.size() - i) % 3 == 0) text += ',';
    text += digits[i];
  }
  return text;
}

}  // namespace

Watch::Watch(int rank, int size, std::vector<Slot*> slots, int own)
    : rank_(rank), size_(size), slots_(std::move(slots)), own_(*slots_[own]), missing_(size) {
  own_.heartbeat = Now();
  own_.arrivals = 0;
  own_.step = 0;
  own_.phase = 0;
  own_.pid = getpid();
  own_.rank = rank;
  own_.pid_namespace = PidNamespace();
  own_.failing = 0;
  thread_ = std::thread([this] {
    std::unique_lock lock(mutex_);
    while (!wake_.wait_for(lock, std::chrono::milliseconds(kLook), [this] { return end_; })) {
      lock.unlock();
      Look();
      lock.lock();
    }
  });
}

Watch::~Watch() {
  {
    std::lock_guard lock(mutex_);
    end_ = true;
  }
  wake_.notify_all();
  thread_.join();
}

void Watch::SetAdvice(const std::string& advice) {
  std::lock_guard lock(mutex_);
  advice_ = advice;
}

void Watch::SetPlace(Phase phase, int64_t step) {
  own_.step = step;
  own_.phase = static_cast<int32_t>(phase);
}

void Watch::Failing() {
  own_.failing = 1;
  since_ = 0;
}

Watch::Waiting::Waiting(Watch& watch, Common what, bool patient, Phase phase) : watch_(watch), before_(watch.phase()) {
  watch_.own_.phase = static_cast<int32_t>(phase);
  watch_.patient_ = patient;
  const int64_t before = watch_.own_.arrivals;
  watch_.own_.arrivals = (before / kRemembered + 1) * kRemembered + before * kKinds % kRemembered + static_cast<int64_t>(what);
  watch_.since_ = Now();
}

Watch::Waiting::~Waiting() {
  watch_.since_ = 0;
  watch_.own_.phase = static_cast<int32_t>(before_);
}

void Watch::Look() {
  const int64_t now = Now(), since = since_.load();
  own_.heartbeat = now;
  if (since == 0 || own_.failing || !begun_) return;
  const int64_t waited = now - since;
  if (waited < 5 * kLook) return;
  const std::string step = Grouped(own_.step), place = " (step " + step + ", " + kWaiting[own_.phase];
  if (const Slot* other = FindElsewhere()) {
    const auto words = [](const Slot& s) { return "rank " + std::to_string(s.rank) + " " + kTogether[s.arrivals % kKinds]; };
    // Both see it.
    if (other->rank > rank_) End("the ranks are not at the same place: " + words(own_) + ", " + words(*other) + place + ")");
    if (waited > kGrace) _exit(kExitCode);
    return;
  }
  const std::vector<Late> late = FindLate(now);
  if (late.empty()) return LookTogether(now, since);
  met_ = 0;
  const auto is_late = [&](int r) { return std::any_of(late.begin(), late.end(), [r](const Late& l) { return l.rank == r; }); };
  int reporter = 0;
  while (is_late(reporter)) ++reporter;
  const bool reports = reporter >= rank_;

  const auto dead = std::find_if(late.begin(), late.end(), [](const Late& l) { return l.dead; });
  if (dead != late.end()) {
    // It had its own words, or the launcher tells of it; else nobody would.
    if (dead->failing || !reports) {
      if (waited > kGrace) _exit(kExitCode);
      return;
    }
    return End("rank " + std::to_string(dead->rank) + " is gone (step " + step + dead->place + ")");
  }
  const bool excused = patient_ || std::any_of(late.begin(), late.end(), [](const Late& l) { return l.busy; });
  const Late& first = *std::max_element(late.begin(), late.end(), [](const Late& a, const Late& b) { return a.silent < b.silent; });
  const int64_t silent = excused ? first.silent : waited;
  const int64_t timeout = static_cast<int64_t>(timeout_ * 1000);
  const bool lost = std::none_of(late.begin(), late.end(), [](const Late& l) { return l.lives; });
  if (stopping_ && lost && !patient_ && waited > kStopPatience) _exit(kExitCode);
  const std::string about = "rank " + std::to_string(first.rank) + " has been silent for " + Grouped(silent / 1000) + " s" + place + first.place + ")";
  if (silent > timeout) {
    if (reports) return End(about);
    if (silent > timeout + kGrace) _exit(kExitCode);
    return;
  }
  if (reports && silent > std::min(kWarnAfter, timeout / 2) && warned_ != since) {
    warned_ = since;
    const std::string line = "riffle: " + about + "; it is waited for until " + Grouped(timeout / 1000) + " s have passed\n";
    (void)!write(2, line.data(), line.size());
  }
}

// All have come and live: it is over soon, or they wait for each other.
void Watch::LookTogether(int64_t now, int64_t since) {
  if (met_ != since) met_at_ = now;
  met_ = since;
  const int64_t beyond = now - met_at_ - static_cast<int64_t>(timeout_ * 1000);
  if (beyond < 0) return;
  const bool reports = std::all_of(slots_.begin(), slots_.end(), [this](const Slot* s) { return s->rank >= rank_; });
  if (reports) End("the ranks wait for each other (step " + Grouped(own_.step) + ", " + kWaiting[own_.phase] + ")");
  if (beyond > kGrace) _exit(kExitCode);
}

// A rank of this machine that has come to something else as the same operation: both would wait for ever. Null where there is none.
const Slot* Watch::FindElsewhere() const {
  const int64_t own = own_.arrivals;
  const auto is_elsewhere = [own](const Slot* slot) {
    const int64_t its = slot->arrivals, ahead = its / kRemembered - own / kRemembered;
    // Both in the history of whoever is ahead, and of the other.
    int64_t mine = own % kRemembered, theirs = its % kRemembered;
    for (int64_t i = 0; i < kHistory && i < ahead; ++i) theirs /= kKinds;
    for (int64_t i = 0; i < kHistory && i < -ahead; ++i) mine /= kKinds;
    return mine != 0 && theirs != 0 && mine % kKinds != theirs % kKinds;
  };
  const auto found = std::find_if(slots_.begin(), slots_.end(), is_elsewhere);
  return found == slots_.end() ? nullptr : *found;
}

// Ranks of this machine that have not come to the operation that this one waits in, or whose heart does not beat; of others those whose message is missing.
std::vector<Watch::Late> Watch::FindLate(int64_t now) const {
  std::vector<Late> late;
  std::vector<char> here(size_);
  for (const Slot* slot : slots_) {
    here[slot->rank] = 1;
    if (slot == &own_) continue;
    Late one{.rank = slot->rank, .place = "", .silent = now - since_, .lives = false, .dead = false, .busy = false, .failing = slot->failing != 0, .pid = 0};
    if (slot->pid_namespace == own_.pid_namespace) one.pid = slot->pid;
    one.dead = one.pid != 0 && kill(one.pid, 0) != 0 && errno == ESRCH;
    const auto phase = static_cast<Phase>(slot->phase.load());
    const int64_t pulse = now - slot->heartbeat;
    // Who has come may still have been stopped in the middle of it.
    one.lives = !one.dead && pulse < kPulse;
    if (one.lives && slot->arrivals / kRemembered >= own_.arrivals / kRemembered) continue;
    one.place = std::string("; last seen ") + kDoing[slot->phase];
    one.busy = one.lives && (phase == Phase::kSaving || phase == Phase::kEvaluating || phase == Phase::kStarting);
    if (one.busy || patient_) one.silent = one.lives ? 0 : pulse;
    late.push_back(one);
  }
  for (int r = 0; r < size_; ++r)
    if (!here[r] && missing_[r]) late.push_back({.rank = r, .place = "", .silent = patient_ ? 0 : now - since_, .lives = false, .dead = false, .busy = false, .failing = false, .pid = 0});
  std::sort(late.begin(), late.end(), [](const Late& a, const Late& b) { return a.rank < b.rank; });
  return late;
}

// The last words. Late ranks are left to the launcher, whose exit code is that of the first one that ends; one that is only
// stopped, and continued before that, finds this one gone and leaves the word to it.
void Watch::End(const std::string& what) {
  own_.failing = 1;
  std::string text = "riffle: " + what + ".\n  All ranks were ended.";
  {
    std::lock_guard lock(mutex_);
    if (!advice_.empty()) text += " " + advice_;
  }
  text += "\n";
  (void)!write(2, text.data(), text.size());
  _exit(kExitCode);
}

}  // namespace riffle

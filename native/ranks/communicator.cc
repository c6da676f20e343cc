#include "communicator.h"

#include <sched.h>
#include <time.h>

#include <cstring>
#include <new>
#include <set>
#include <thread>

namespace riffle {
namespace {

constexpr int kSizeTag = 1, kBytesTag = 2, kFirstTag = 16, kTags = 16'000;  // MPI promises 32,767
constexpr uint64_t kMagic = 0x726966666c653133;
constexpr size_t kLongestTag = 48;
constexpr long kMostBytes = 1L << 30;

// Goes before the bytes of a rank, so that whoever is at another place is found out before they are taken for something else.
struct Announcement {
  uint64_t magic = kMagic;
  int64_t sequence = 0, bytes = 0;
  char tag[kLongestTag] = "";
};

}  // namespace

Communicator::Communicator(const std::string& library, const std::string& family) : mpi_(library, family) {
  mpi_.Init();
  neighbours_ = mpi_.Neighbours();
  has_cores_ = neighbours_.size <= static_cast<int>(std::thread::hardware_concurrency());
  std::vector<Slot*> slots;
  for (char* memory : mpi_.Share(neighbours_, 4096)) slots.push_back(reinterpret_cast<Slot*>(memory));
  new (slots[neighbours_.rank]) Slot;
  watch_ = std::make_unique<Watch>(rank(), size(), slots, neighbours_.rank);
  std::set<std::string> leaders;
  for (const std::string& leader : Gather("machine", std::to_string(rank() - neighbours_.rank), true)) leaders.insert(leader);
  machines_ = static_cast<int>(leaders.size());
  watch_->Begin();  // all have filled their slots before they came here
}

Communicator::~Communicator() = default;

std::vector<std::string> Communicator::Gather(const std::string& tag, const std::string& bytes, bool patient) {
  if (static_cast<long>(bytes.size()) > kMostBytes) throw RanksError("more than a gigabyte for all ranks: " + tag);
  static int64_t sequence = 0;
  Announcement mine;
  mine.sequence = ++sequence;
  mine.bytes = static_cast<int64_t>(bytes.size());
  std::strncpy(mine.tag, tag.c_str(), kLongestTag - 1);
  std::vector<Announcement> theirs(size());
  std::vector<std::string> all(size());
  all[rank()] = bytes;
  std::vector<Mpi::Handle> sends, receives(size());
  const Watch::Waiting waiting(*watch_, Common::kGather, patient, watch_->phase());
  const auto exchange = [&](const auto& send, const auto& receive) {
    sends.clear();
    for (int r = 0; r < size(); ++r) {
      if (r == rank()) continue;
      receives[r] = receive(r);
      watch_->Miss(r, true);
      sends.push_back(send(r));
    }
    WaitUntil([&] {
      bool done = true;
      for (int r = 0; r < size(); ++r) {
        if (Mpi::IsNull(receives[r])) continue;
        if (mpi_.Test(receives[r])) watch_->Miss(r, false);
        else done = false;
      }
      for (Mpi::Handle& send : sends) done &= mpi_.Test(send);
      return done;
    });
  };
  exchange([&](int r) { return mpi_.Send(&mine, sizeof mine, r, kSizeTag); },
           [&](int r) { return mpi_.Receive(&theirs[r], sizeof(Announcement), r, kSizeTag); });
  for (int r = 0; r < size(); ++r) {
    if (r == rank()) continue;
    const Announcement& its = theirs[r];
    if (its.magic != kMagic || its.sequence != mine.sequence || std::strncmp(its.tag, mine.tag, kLongestTag) != 0 || its.bytes < 0 ||
        its.bytes > kMostBytes)
      throw RanksError("ranks are not at the same place: rank " + std::to_string(rank()) + " at \"" + mine.tag + "\" (" +
                       std::to_string(mine.sequence) + "), rank " + std::to_string(r) + " at \"" +
                       std::string(its.tag, strnlen(its.tag, kLongestTag)) + "\" (" + std::to_string(its.sequence) + ")");
    all[r].resize(its.bytes);
  }
  exchange([&](int r) { return mpi_.Send(bytes.data(), mine.bytes, r, kBytesTag); },
           [&](int r) { return mpi_.Receive(all[r].data(), theirs[r].bytes, r, kBytesTag); });
  return all;
}

void Communicator::WaitUntil(const std::function<bool()>& done) const {
  for (int tries = 0; !done(); ++tries) {
    if (tries < (has_cores_ ? 200 : 2)) continue;
    if (tries < 400) {
      sched_yield();
      continue;
    }
    const timespec pause{0, tries < 2000 ? 50'000 : 500'000};
    nanosleep(&pause, nullptr);
  }
}

int Communicator::NextTag() {
  tag_ = (tag_ + 1) % (kTags / 2);
  return kFirstTag + 2 * tag_;
}

void Communicator::Finalize() {
  watch_.reset();
  mpi_.Finalize();
}

}  // namespace riffle

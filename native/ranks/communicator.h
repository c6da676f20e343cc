// The ranks that train together, as this one sees them.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "mpi.h"
#include "watch.h"

namespace riffle {

class Communicator {
 public:
  // Starts MPI; once in a process. Throws RanksError.
  Communicator(const std::string& library, const std::string& family);
  ~Communicator();

  Mpi& mpi() { return mpi_; }
  Watch& watch() { return *watch_; }
  int rank() const { return mpi_.rank(); }
  int size() const { return mpi_.size(); }
  const std::string& library() const { return mpi_.version(); }
  int machines() const { return machines_; }
  const Mpi::Window& neighbours() const { return neighbours_; }
  // Whether each rank of this machine can have a core of its own.
  bool has_cores() const { return has_cores_; }

  // Every rank's bytes, in their order. All ranks call it with the same tag. A patient one waits as long as the others live.
  std::vector<std::string> Gather(const std::string& tag, const std::string& bytes, bool patient);

  // Waits for what `done` tells, which moves it on: first by asking often, then more and more rarely.
  void WaitUntil(const std::function<bool()>& done) const;

  // Tags of MPI messages: one for each bucket or tail under way, in turn.
  int NextTag();

  void Finalize();

 private:
  Mpi mpi_;
  Mpi::Window neighbours_;
  int machines_ = 1;
  bool has_cores_ = false;
  int tag_ = 0;
  std::unique_ptr<Watch> watch_;
};

}  // namespace riffle

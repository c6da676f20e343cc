// MPI, opened when it is wanted: no header of it is needed to build, and no library to run without it.
//
// Two families of libraries have the same functions and other handles: Open MPI's are addresses of its own symbols
// (libmpi.so.40: versions 4 and 5), MPICH's are numbers (libmpi.so.12, Debian's libmpich.so.12: MPICH 3 and 4, Intel MPI, MVAPICH2). Both
// pass in a register, so here a handle is a word. Constants of MPICH's binary interface: mpich.org/abi.
#pragma once

#include <cstdint>
#include <stdexcept>
#include <string>
#include <vector>

namespace riffle {

// MPI is missing, is not the launcher's, or a call of it failed.
class RanksError : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

// A message was longer than the place for it.
class Truncated : public RanksError {
 public:
  using RanksError::RanksError;
};

class Mpi {
 public:
  using Handle = intptr_t;

  // The library of `path`; without one, of the family that is asked for first ("openmpi" or "mpich"), else the other.
  Mpi(const std::string& path, const std::string& family);

  // "Open MPI 4.1.4".
  const std::string& version() const { return version_; }
  bool is_open_mpi() const { return open_mpi_; }

  int rank() const { return rank_; }
  int size() const { return size_; }
  Handle world() const { return world_; }

  void Init();
  void Finalize();

  // Bytes between two ranks; a request ends by Test.
  Handle Send(const void* bytes, long count, int to, int tag);
  Handle Receive(void* bytes, long count, int from, int tag);
  // Whether it has ended; then the handle is null. Throws Truncated.
  bool Test(Handle& request);
  static bool IsNull(Handle request) { return request == 0; }

  // The ranks of this machine, each given `bytes` of a window that all of them see: my place among them, and everybody's memory.
  struct Window {
    int rank = 0, size = 0;
    Handle communicator = 0;
  };
  Window Neighbours();
  // Memory of each neighbour, in their order, at whole pages; zeroed by nobody. Throws where others share another number of bytes.
  std::vector<char*> Share(const Window& neighbours, long bytes);

 private:
  void* Symbol(const char* name) const;
  template <class F>
  void Bind(F& function, const char* name) const {
    function = reinterpret_cast<F>(Symbol(name));
  }
  void Check(int code, const char* call) const;

  void* library_ = nullptr;
  std::string file_, version_;
  bool open_mpi_ = false;
  int rank_ = 0, size_ = 1;
  Handle world_ = 0, byte_ = 0, errors_return_ = 0, info_null_ = 0;
  void* status_ignore_ = nullptr;
  int shared_type_ = 0, truncate_ = 15;

  int (*init_thread_)(int*, char***, int, int*) = nullptr;
  int (*finalize_)() = nullptr;
  int (*get_library_version_)(char*, int*) = nullptr;
  int (*error_class_)(int, int*) = nullptr;
  int (*error_string_)(int, char*, int*) = nullptr;
  int (*comm_set_errhandler_)(Handle, Handle) = nullptr;
  int (*comm_rank_)(Handle, int*) = nullptr;
  int (*comm_size_)(Handle, int*) = nullptr;
  int (*comm_split_type_)(Handle, int, int, Handle, Handle*) = nullptr;
  int (*isend_)(const void*, int, Handle, int, int, Handle, Handle*) = nullptr;
  int (*irecv_)(void*, int, Handle, int, int, Handle, Handle*) = nullptr;
  int (*test_)(Handle*, int*, void*) = nullptr;
  int (*win_allocate_shared_)(intptr_t, int, Handle, Handle, void*, Handle*) = nullptr;
  int (*win_shared_query_)(Handle, int, intptr_t*, int*, void*) = nullptr;
};

}  // namespace riffle

#include "mpi.h"

#include <dlfcn.h>

#include <algorithm>
#include <utility>

namespace riffle {
namespace {

constexpr int kThreadSerialized = 2;  // calls come from several threads, one at a time; the number is the same in both families
constexpr uintptr_t kPage = 4096;
constexpr int kLongestVersion = 8192, kLongestError = 512;
const std::vector<std::string> kOpenMpi = {"libmpi.so.40"}, kMpich = {"libmpi.so.12", "libmpich.so.12"};

}  // namespace

Mpi::Mpi(const std::string& path, const std::string& family) {
  std::string tried;
  const auto open = [&](const std::string& file) {
    // Open MPI's components look for its symbols among all.
    library_ = dlopen(file.c_str(), RTLD_NOW | RTLD_GLOBAL);
    if (!library_) tried += std::string(tried.empty() ? "" : "; ") + dlerror();
    file_ = file;
    return library_ != nullptr;
  };
  const bool mpich_first = family == "mpich";
  std::vector<std::string> files = {path};
  if (path.empty()) {
    files = mpich_first ? kMpich : kOpenMpi;
    files.insert(files.end(), mpich_first ? kOpenMpi.begin() : kMpich.begin(), mpich_first ? kOpenMpi.end() : kMpich.end());
  }
  if (std::none_of(files.begin(), files.end(), open)) throw RanksError("no MPI library opens: " + tried);

  Bind(init_thread_, "MPI_Init_thread");
  Bind(finalize_, "MPI_Finalize");
  Bind(get_library_version_, "MPI_Get_library_version");
  Bind(error_class_, "MPI_Error_class");
  Bind(error_string_, "MPI_Error_string");
  Bind(comm_set_errhandler_, "MPI_Comm_set_errhandler");
  Bind(comm_rank_, "MPI_Comm_rank");
  Bind(comm_size_, "MPI_Comm_size");
  Bind(comm_split_type_, "MPI_Comm_split_type");
  Bind(isend_, "MPI_Isend");
  Bind(irecv_, "MPI_Irecv");
  Bind(test_, "MPI_Test");
  Bind(win_allocate_shared_, "MPI_Win_allocate_shared");
  Bind(win_shared_query_, "MPI_Win_shared_query");

  open_mpi_ = dlsym(library_, "ompi_mpi_comm_world") != nullptr;
  if (open_mpi_) {
    const auto address = [this](const char* name) { return reinterpret_cast<Handle>(Symbol(name)); };
    world_ = address("ompi_mpi_comm_world");
    byte_ = address("ompi_mpi_byte");
    errors_return_ = address("ompi_mpi_errors_return");
    info_null_ = address("ompi_mpi_info_null");
  } else {
    world_ = 0x44000000;
    byte_ = 0x4c00010d;
    errors_return_ = 0x54000001;
    info_null_ = 0x1c000000;
    status_ignore_ = reinterpret_cast<void*>(1);
    shared_type_ = 1;
    truncate_ = 14;
  }
  std::string text(kLongestVersion, '\0');
  int length = 0;
  if (get_library_version_(text.data(), &length) != 0) throw RanksError(file_ + " does not say its version");
  // "Open MPI v4.1.4, package: ..." and "MPICH Version:      4.0.2\nMPICH Release date: ...".
  text.resize(length);
  text.resize(text.find_first_of(",\n") == std::string::npos ? text.size() : text.find_first_of(",\n"));
  for (const auto& [from, to] : {std::pair<std::string, std::string>{"Open MPI v", "Open MPI "}, {"MPICH Version:", "MPICH "}})
    if (text.rfind(from, 0) == 0) text.replace(0, from.size(), to);
  for (const char c : text)
    if (c != '\t' && c != '\0' && (c != ' ' || (!version_.empty() && version_.back() != ' '))) version_ += c;
}

void Mpi::Init() {
  int provided = 0;
  if (init_thread_(nullptr, nullptr, kThreadSerialized, &provided) != 0)
    throw RanksError(version_ + " does not start: MPI_Init_thread failed");
  if (provided < kThreadSerialized) throw RanksError(version_ + " takes calls from one thread only; from any, in turn, is needed");
  Check(comm_set_errhandler_(world_, errors_return_), "MPI_Comm_set_errhandler");
  Check(comm_rank_(world_, &rank_), "MPI_Comm_rank");
  Check(comm_size_(world_, &size_), "MPI_Comm_size");
}

void Mpi::Finalize() { finalize_(); }

Mpi::Handle Mpi::Send(const void* bytes, long count, int to, int tag) {
  Handle request = 0;  // MPICH writes the lower half
  Check(isend_(bytes, static_cast<int>(count), byte_, to, tag, world_, &request), "MPI_Isend");
  return request;
}

Mpi::Handle Mpi::Receive(void* bytes, long count, int from, int tag) {
  Handle request = 0;
  Check(irecv_(bytes, static_cast<int>(count), byte_, from, tag, world_, &request), "MPI_Irecv");
  return request;
}

bool Mpi::Test(Handle& request) {
  if (IsNull(request)) return true;
  int done = 0;
  Check(test_(&request, &done, status_ignore_), "MPI_Test");
  if (done) request = 0;
  return done != 0;
}

Mpi::Window Mpi::Neighbours() {
  Window window;
  Check(comm_split_type_(world_, shared_type_, rank_, info_null_, &window.communicator), "MPI_Comm_split_type");
  Check(comm_rank_(window.communicator, &window.rank), "MPI_Comm_rank");
  Check(comm_size_(window.communicator, &window.size), "MPI_Comm_size");
  return window;
}

std::vector<char*> Mpi::Share(const Window& neighbours, long bytes) {
  Handle window = 0;
  void* own = nullptr;
  Check(win_allocate_shared_(bytes + kPage, 1, info_null_, neighbours.communicator, &own, &window), "MPI_Win_allocate_shared");
  std::vector<char*> all;
  for (int r = 0; r < neighbours.size; ++r) {
    intptr_t size = 0;
    int unit = 0;
    void* base = nullptr;
    Check(win_shared_query_(window, r, &size, &unit, &base), "MPI_Win_shared_query");
    // Whoever reads at places of its own in another's memory would otherwise read behind its end.
    if (size != bytes + static_cast<intptr_t>(kPage))
      throw RanksError("ranks do not exchange the same: rank " + std::to_string(neighbours.rank) + " of this machine shares " +
                       std::to_string(bytes) + " bytes, rank " + std::to_string(r) + " " + std::to_string(size - static_cast<intptr_t>(kPage)));
    // Open MPI's parts begin anywhere. Memory is mapped by pages, so a page begins at the same byte for everybody.
    all.push_back(reinterpret_cast<char*>((reinterpret_cast<uintptr_t>(base) + kPage - 1) / kPage * kPage));
  }
  return all;
}

void* Mpi::Symbol(const char* name) const {
  if (void* symbol = dlsym(library_, name)) return symbol;
  throw RanksError(file_ + " has no " + name);
}

void Mpi::Check(int code, const char* call) const {
  if (code == 0) return;
  std::string text(kLongestError, '\0');
  int length = 0;
  error_string_(code, text.data(), &length);
  const std::string what = std::string(call) + " failed: " + text.c_str();
  int kind = 0;
  if (error_class_(code, &kind) == 0 && kind == truncate_) throw Truncated(what);
  throw RanksError(what);
}

}  // namespace riffle
